"""Two folders, an encoder, a table: names, parts, status, and nothing encoded twice."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation import FeatureStore, FeatureStoreError, frechet_distance, load_encoder, median_bandwidth, mmd
from evaluation.features.image_set import EvaluationError, ImageSet, read_image_set
from evaluation.report.evaluate import Evaluation, Row, evaluate
from studies.dataset import Record, write_metadata
from tests.evaluation.encoders.small import make_small_inception

TEXTS = {
    "polyps": {"polyps": ["a photo of a polyp"], "normal": ["normal mucosa"]},
    "snares": {"snares": ["a snare"], "normal": ["normal mucosa"]},
}


def write_images(folder: Path, n: int, *, seed: int, tint: float = 1.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(n):
        pixels = rng.integers(0, 256, (32, 32, 3)) * np.array([1.0, tint, tint])
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:03d}.png")
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageSet, ImageSet]:
    """A prepared real set of two categories and two centers, and a plain folder with subfolders."""
    root = tmp_path_factory.mktemp("sets")
    real = root / "real"
    write_images(real / "polyps", 20, seed=0, tint=0.5)
    write_images(real / "normal", 12, seed=1)
    names = [path.relative_to(real).as_posix() for path in sorted(real.rglob("*.png"))]
    write_metadata(
        real,
        [
            Record(name, ("a text",), name.split("/")[0], "x", "AB"[i % 2], name, "test")
            for i, name in enumerate(names)
        ],
    )
    write_images(root / "generated" / "polyps", 18, seed=2, tint=0.6)
    write_images(root / "generated" / "snares", 1, seed=3)
    (root / "generated" / "notes.txt").write_text("not an image")
    return read_image_set(real), read_image_set(root / "generated")


def measure(sets: tuple[ImageSet, ImageSet], encoder: Any, folder: Path, **options: Any) -> Evaluation:
    return evaluate(*sets, [encoder], store=FeatureStore(folder / "f.sqlite"), **options)


def pick(result: Evaluation, name: str, part: str = "all") -> Row:
    return next(row for row in result.rows if row.name.startswith(name) and row.part == part)


def test_numbers_are_those_of_the_metrics(
    sets: tuple[ImageSet, ImageSet], micro_clip: Any, tmp_path: Path
) -> None:
    result = measure(
        sets, micro_clip, tmp_path, by=["category", "center"], texts=TEXTS, allow_uncalibrated=True
    )
    real, generated = ([Image.open(path) for path in images.paths] for images in sets)
    a, b = micro_clip.encode_images(generated), micro_clip.encode_images(real)
    label = Path(micro_clip.uri).name
    row = pick(result, f"FD ({label})")
    assert row.estimate.value == pytest.approx(frechet_distance(a, b).value, rel=1e-5)
    assert (row.n_real, row.n_generated, row.better) == (32, 19, "lower")
    # one bandwidth, of all real images, for every part
    polyps = [i for i, path in enumerate(sets[0].paths) if path.parent.name == "polyps"]
    expected = mmd(a[:18], b[polyps], bandwidth=median_bandwidth(b))
    assert pick(result, "RBF-MMD", "category=polyps").estimate.value == pytest.approx(
        expected.value, abs=1e-6
    )
    # the generated images have no center: all of them stand in each
    assert {(row.part, row.n_generated) for row in result.rows if "center" in row.part} == {
        ("center=A", 19),
        ("center=B", 19),
    }
    assert any("does not say the center" in warning for warning in result.card["warnings"])
    assert any("1 files are not images" in warning for warning in result.card["warnings"])


def test_a_category_in_one_set_alone_is_undefined(
    sets: tuple[ImageSet, ImageSet], micro_clip: Any, tmp_path: Path
) -> None:
    result = measure(sets, micro_clip, tmp_path, by=["category"], metrics=["fd", "kid", "mmd", "diversity"])
    for part, missing in (("category=normal", "generated"), ("category=snares", "real")):
        for name in ("FD", "KD", "RBF-MMD"):
            estimate = pick(result, name, part).estimate
            assert (estimate.status, estimate.value) == ("undefined", None)
            assert f"no {missing} image" in estimate.method
    assert pick(result, "diversity", "category=snares").estimate.status == "undefined"  # one image
    assert "category 'normal' is in the real set alone" in result.card["warnings"]


def test_folders_named_by_labels_are_taken_for_their_categories(
    micro_clip: Any, sets: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    real = write_images(tmp_path / "real", 10, seed=0)
    names = [path.name for path in sorted(real.glob("*.png"))]
    write_metadata(real, [Record(n, ("a",), "polyps", "polyp", "A", n, "test") for n in names])
    write_images(tmp_path / "generated" / "polyp", 6, seed=1)
    pair = read_image_set(real), read_image_set(tmp_path / "generated")
    row = pick(
        measure(pair, micro_clip, tmp_path, by=["category"], metrics=["mmd"]), "RBF", "category=polyps"
    )
    assert (row.n_real, row.n_generated) == (10, 6)
    assert row.estimate.value is not None
    # a name that is neither leaves the set as it is
    assert sets[1].named_as(pair[0]) is sets[1]


def test_second_run_encodes_nothing_and_says_the_same(
    sets: tuple[ImageSet, ImageSet], micro_clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    seen: list[tuple[str, int, int]] = []
    first = measure(sets, micro_clip, tmp_path, texts=TEXTS, on_progress=lambda *step: seen.append(step))
    assert seen[-1][1:] == (19, 19)

    def refuse(*_: object) -> None:
        raise AssertionError("an image was encoded again")

    monkeypatch.setattr(micro_clip, "encode_images", refuse)
    again = measure(sets, micro_clip, tmp_path, texts=TEXTS)
    assert again.to_json() == first.to_json()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_alignment_by_category_and_its_calibration(
    sets: tuple[ImageSet, ImageSet], micro_clip: Any, tmp_path: Path
) -> None:
    passed = measure(
        sets, micro_clip, tmp_path, texts=TEXTS, by=["category"], metrics=["alignment"], floor=0.0
    )
    row = pick(passed, "alignment margin", "category=polyps")
    assert (row.estimate.status, row.estimate.n) == ("ok", 18)
    assert "A photo depicts" in pick(passed, "CLIPScore").estimate.method
    assert pick(passed, "alignment margin").estimate.status == "unreliable"  # no real snare to calibrate on
    refused = measure(
        sets, micro_clip, tmp_path, texts=TEXTS, by=["category"], metrics=["alignment"], floor=1.0
    )
    estimate = pick(refused, "alignment margin", "category=polyps").estimate
    assert estimate.status == "undefined"
    assert "refused, AUROC of 'polyps'" in estimate.method
    told = measure(
        sets, micro_clip, tmp_path, texts=TEXTS, metrics=["alignment"], floor=1.0, allow_uncalibrated=True
    )
    assert pick(told, "alignment margin").estimate.status == "unreliable"
    without = measure(sets, micro_clip, tmp_path, texts={"polyps": TEXTS["polyps"]}, metrics=["alignment"])
    assert "no texts for the category 'snares'" in pick(without, "cosine").estimate.method


def test_only_the_published_inception_gives_fid(
    sets: tuple[ImageSet, ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro_clip: Any
) -> None:
    encoder: Any = load_encoder(f"inception:{make_small_inception(tmp_path)}", device="cpu")
    result = measure(sets, encoder, tmp_path, metrics=["fd", "is", "alignment"])
    assert pick(result, "FD (inception:").estimate.value is not None
    assert pick(result, "IS (inception:").estimate.value is not None  # from the same features
    assert pick(result, "alignment margin").estimate.method.endswith("this encoder reads no texts")
    encoder.published = True
    named = measure(sets, encoder, tmp_path)
    assert {"FID", "KID", "IS"} <= {row.name for row in named.rows}
    other = measure(sets, micro_clip, tmp_path, metrics=["is"])
    assert "no class probabilities" in other.rows[0].estimate.method
    assert not {"FID", "KID", "IS"} & {row.name for row in other.rows}


def test_json_and_card(sets: tuple[ImageSet, ImageSet], micro_clip: Any, tmp_path: Path) -> None:
    result = measure(sets, micro_clip, tmp_path, by=["category"], texts=TEXTS)
    text = result.to_json()
    assert "NaN" not in text
    again = Evaluation.from_json(text)
    assert again.rows == result.rows
    assert json.loads(text)["card"] == again.card
    card = result.card_markdown()
    for fact in (micro_clip.fingerprint, "resize_mode: shortest", "features float32", "numpy", "seed: 0"):
        assert fact in card


def test_wrong_input_is_named(sets: tuple[ImageSet, ImageSet], micro_clip: Any, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"metric 'fid' does not exist; use fd, kid"):
        measure(sets, micro_clip, tmp_path, metrics=["fid"])
    with pytest.raises(EvaluationError, match="by 'color' does not exist"):
        measure(sets, micro_clip, tmp_path, by=["color"])
    with pytest.raises(EvaluationError, match="no encoder"):
        evaluate(*sets, [], store=FeatureStore(tmp_path / "f.sqlite"))
    flat = read_image_set(write_images(tmp_path / "flat", 2, seed=0))
    with pytest.raises(EvaluationError, match=r"neither .* says the category"):
        measure((flat, flat), micro_clip, tmp_path, by=["category"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match="no image"):
        read_image_set(tmp_path / "empty")
    with pytest.raises(EvaluationError, match="no such folder"):
        read_image_set(tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="no pools"):
        read_image_set(tmp_path / "flat", pool=["test"])
    with pytest.raises(EvaluationError, match="no image in pool validation"):
        read_image_set(sets[0].root, pool=["validation"])
    assert read_image_set(tmp_path / "flat", category="polyps").columns["category"] == ("polyps", "polyps")
    whole = (tmp_path / "flat" / "000.png").read_bytes()
    (tmp_path / "flat" / "000.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FeatureStoreError, match=r"000.png: not a readable image"):
        measure((flat, flat), micro_clip, tmp_path)


@pytest.mark.parametrize("n", [1, 2])
def test_very_few_images_never_give_a_nan(n: int, micro_clip: Any, tmp_path: Path) -> None:
    few = read_image_set(write_images(tmp_path / "few", n, seed=0), category="polyps")
    result = measure((few, few), micro_clip, tmp_path, by=["category"], texts=TEXTS)
    assert all(row.estimate.status in ("unreliable", "undefined") for row in result.rows)
    json.loads(result.to_json(), parse_constant=pytest.fail)
