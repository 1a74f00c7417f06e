"""The judge: what it reads, and what it says of a folder it cannot use."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.classifier.judge import (
    CATEGORY_NAMES,
    COUNT_NAMES,
    KIND_NAMES,
    LOCATION_NAMES,
    JudgeConfig,
    JudgeError,
    JudgeNetwork,
    load_judge,
    save_judge,
)

CONFIG = JudgeConfig(
    image_size=32,
    widths=(4, 4, 8, 8),
    hidden=8,
    names={
        "category": CATEGORY_NAMES,
        "kind": KIND_NAMES,
        "count": COUNT_NAMES,
        "location": LOCATION_NAMES,
        "color": ("none", "pink", "red"),
        "size": ("none", "large"),
        "paris": ("none", "iia", "ip", "is"),
    },
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = JudgeNetwork(CONFIG)
    return save_judge(tmp_path / "judge", network, CONFIG)


def pictures(count: int, size: tuple[int, int] = (32, 32)) -> list[Image.Image]:
    rng = np.random.default_rng(1)
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(count)]


def test_a_reading_holds_probabilities_with_one_column_for_each_name(folder: Path) -> None:
    judge = load_judge(folder)
    reading = judge.read(pictures(5))
    assert len(reading) == 5
    for head in ("category", "kind", "count", "color", "size", "paris"):
        chances = getattr(reading, f"{head}_probabilities")
        assert chances.dtype == np.float64
        assert chances.shape == (5, len(judge.names[head]))
        np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert judge.names["category"] == ["polyps", "landmarks", "instruments", "normal"]
    assert len(judge.names["kind"]) == 11
    assert reading.location_probabilities.shape == (5, 9)
    assert reading.text.shape == reading.box.shape == (5,)
    assert ((reading.text > 0) & (reading.text < 1)).all()


def test_places_are_named_row_by_row() -> None:
    assert LOCATION_NAMES[0] == "upper-left"
    assert LOCATION_NAMES[4] == "center"
    assert LOCATION_NAMES[5] == "center-right"
    assert LOCATION_NAMES[7] == "lower-center"


def test_no_picture_gives_an_empty_reading(folder: Path) -> None:
    reading = load_judge(folder).read([])
    assert len(reading) == 0
    assert reading.kind_probabilities.shape == (0, 11)


def test_a_picture_is_read_alike_in_any_company(folder: Path) -> None:
    judge, images = load_judge(folder), pictures(7)
    together = judge.read(images).kind_probabilities
    alone = np.concatenate([judge.read([image]).kind_probabilities for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, judge.read(images, batch_size=2).kind_probabilities, atol=1e-5)


def test_pictures_of_any_size_and_mode_are_taken(folder: Path) -> None:
    reading = load_judge(folder).read([*pictures(1, (50, 70)), pictures(1)[0].convert("L")])
    assert len(reading) == 2
    assert np.isfinite(reading.color_probabilities).all()


def test_the_weights_are_half_precision_on_disk_and_the_fingerprint_follows_them(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    judge = load_judge(folder)
    tensors = load_file(folder / "model.safetensors")
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float16}
    assert {p.dtype for p in judge.network.parameters()} == {torch.float32}
    assert load_judge(folder).fingerprint == judge.fingerprint
    tensors["heads.text.bias"] += 1
    save_file(tensors, folder / "model.safetensors")
    assert load_judge(folder).fingerprint != judge.fingerprint


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(JudgeError, match=missing):
        load_judge(folder)


def test_truncated_weights_are_called_so(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(JudgeError, match=r"model\.safetensors: damaged or cut short"):
        load_judge(folder)


def test_a_config_of_another_shape_names_the_tensor(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["names"]["color"].append("green")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(JudgeError, match=r"heads\.color\.(weight|bias)"):
        load_judge(folder)


def test_an_unknown_key_in_the_config_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "depth": 3}))
    with pytest.raises(JudgeError, match="depth"):
        load_judge(folder)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["hidden.0.bias"][0] = float("inf")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(JudgeError, match=r"hidden\.0\.bias"):
        load_judge(folder)
