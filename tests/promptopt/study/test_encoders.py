"""Which encoders may judge a study: weak ones are refused or warned of, and images alone are enough."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptopt.augmentation.filters import JUDGE
from promptopt.augmentation.opening import open_reference
from promptopt.augmentation.sources import AugmentationError, by_hand, read_run
from promptopt.config.study_file import StudyError, study_from_mapping
from promptopt.study.api import Study
from promptopt.study.observer import Observer
from promptopt.study.opening import open_networks
from promptopt.study.run import StudyResult, run_study
from promptopt.study.sets.run import SetResult
from tests.promptopt.augmentation.planted import write_run
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, study, write_squares
from tests.promptopt.set_run import set_study, write_real

SMALL: dict[str, Any] = {
    "search": {"trials": 4, "images": 6, "sampler": "random", "racing": False},
    "confirm": {"top": 2, "images": 8},
}


class Said(Observer):
    """Keeps the warnings of an encoder beside thumbnails."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def on_warning(self, text: str) -> None:
        if "thumbnails" in text:
            self.warnings.append(text)


@dataclass
class GridEncoder:
    """Mean colors of a 4x4 grid, and nothing of texts."""

    uri: str = "grid"
    fingerprint: str = hashlib.sha256(b"grid").hexdigest()
    dim: int = 48

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        return ColorEncoder().encode_images(images)


@dataclass
class BlindEncoder(ColorEncoder):
    """Noise drawn from the pixels: it knows an image again, and nothing of what it shows."""

    uri: str = "blind"
    fingerprint: str = hashlib.sha256(b"blind").hexdigest()

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        seeds = [int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "big") for image in images]
        rows = [np.random.default_rng(seed).normal(size=self.dim) for seed in seeds]
        return np.array(rows, dtype=np.float32).reshape(len(images), self.dim)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("squares") / "data")


def run(base: Path, data: Path, encoder: Any, observer: Observer, **changes: Any) -> StudyResult:
    result = run_study(
        study_from_mapping(study(base, data=str(data), encoder=encoder.uri, **{**SMALL, **changes})),
        runs=base / "runs",
        store=base / "store",
        observer=observer,
        generator=SquareGenerator(),
        encoder=encoder,
    )
    assert isinstance(result, StudyResult)
    return result


def test_an_encoder_worse_than_thumbnails_is_refused_before_any_image(tmp_path: Path, squares: Path) -> None:
    with pytest.raises(StudyError, match=r"encoder: The encoder does worse than thumbnails: .*may not judge"):
        run(tmp_path, squares, BlindEncoder(), Observer())
    assert not list((tmp_path / "store").rglob("*.png"))
    said = Said()
    result = run(tmp_path, squares, BlindEncoder(), said, allow_weak_encoder=True)
    assert len(said.warnings) == 1
    assert "may not judge" in said.warnings[0]
    (check,) = json.loads(result.prompts_path.read_text())["encoder_checks"]
    assert check["verdict"] == "worse"
    assert check["difference"]["high"] < 0
    assert check["sentence"] == said.warnings[0]
    assert "may not judge" in result.report_path.read_text()


def test_an_encoder_of_images_alone_runs_a_study_of_single_prompts_and_a_weak_second_is_warned_of(
    tmp_path: Path, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_second(*given: Any, **named: Any) -> Any:
        return replace(open_networks(*given, **named), second=BlindEncoder())

    monkeypatch.setattr("promptopt.study.setup.open_networks", with_second)
    said = Said()
    result = run(tmp_path, squares, GridEncoder(), said)
    assert [one.verdict for one in result.prompts.encoder_checks] == ["better", "worse"]
    assert len(said.warnings) == 1
    first = result.prompts.prompts[0]
    assert "alignment" not in first.confirmation
    assert {"utility", "mmd"} <= set(first.confirmation)
    assert sum(result.weights.values()) == pytest.approx(1)
    assert result.report_path.exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"score": {"alignment": 1, "utility": 0, "distance": 0}}, "score.utility and score.distance are 0"),
        ({"mode": "pareto"}, "no alignment for mode: pareto"),
    ],
)
def test_what_needs_texts_is_refused(
    tmp_path: Path, squares: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(StudyError, match=f"'grid' reads images alone.*{problem}"):
        run(tmp_path, squares, GridEncoder(), Observer(), **changes)


@pytest.mark.slow
def test_an_encoder_of_images_alone_runs_a_study_of_sets(tmp_path: Path) -> None:
    texts = {"red": ("a big red square on white",), "blue": ("a big blue square on black",)}
    data = write_real(tmp_path / "data", texts, each=20, test=20)
    content = set_study(
        data, set={"budget": 24, "images": 4, "prompts": 3, "tolerance": None}, encoder="grid"
    )
    content["score"] = {"closeness": 1.0, "margin": 0.5}
    objects: dict[str, Any] = {"generator": SquareGenerator(), "encoder": GridEncoder()}
    said = Said()
    result = Study(content, runs=tmp_path / "runs", store=tmp_path / "store", **objects).run(observer=said)
    assert isinstance(result, SetResult)
    assert said.warnings == []
    assert [one.classes for one in result.sets.encoder_checks] == [2]
    margin = result.sets.of("red").metrics["set"]["margin"]
    assert margin.value is not None
    assert margin.value > 0  # a probe's log-odds, trained on the real images
    content["score"]["inception_score"] = 0.5
    with pytest.raises(StudyError, match=r"score\.inception_score has no texts"):
        Study(content, runs=tmp_path / "other", store=tmp_path / "store", **objects).run()


def test_an_encoder_of_images_alone_scores_asks_and_tells(tmp_path: Path, squares: Path) -> None:
    texts = {"red": ("a big red square on white",), "blue": ("a big blue square on black",)}
    data = write_real(tmp_path / "sets", texts, each=20, test=20)
    content = set_study(data, encoder="grid", score={"closeness": 1.0, "margin": 0.5})
    where: dict[str, Any] = {"runs": tmp_path / "runs", "store": tmp_path / "store"}
    with Study(content, generator=SquareGenerator(), encoder=GridEncoder(), **where) as own:
        gap = own.tell(own.ask())["red"]
        told = own.tell(["a big red square on white"], label="red")["red"]
        assert told.images >= gap.images
        good, bad = own.score(["a big red square on white", "a tiny green square"], label="red", images=8)
        assert own.ask()
    assert good.score.value is not None
    assert bad.score.value is not None
    assert good.score.value > bad.score.value
    assert set(good.estimates) == {"closeness", "margin"}

    single = study(tmp_path, data=str(squares), **SMALL)
    (scored,) = Study(single, generator=SquareGenerator(), encoder=GridEncoder(), **where).score(
        ["a big red square on black"]
    )
    assert "alignment" not in scored.estimates
    assert scored.score.value is not None
    with pytest.raises(StudyError, match="thumbnails"):
        Study(single, generator=SquareGenerator(), encoder=BlindEncoder(), **where).score(["a red square"])


def test_the_filter_of_an_augmentation_set_says_it_too(
    tmp_path: Path, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (red,) = read_run(write_run(tmp_path / "run", squares))
    sources = [red, by_hand("other", ["a green square"], like=red)]
    monkeypatch.setattr("evaluation.encoders.load.load_encoder", lambda *_, **__: BlindEncoder())
    how: dict[str, Any] = {"data": squares, "store": tmp_path, "device": "cpu"}
    with pytest.raises(AugmentationError, match=r"may not judge.*--allow-weak-encoder"):
        open_reference(sources, filters=[JUDGE], **how)
    allowed = open_reference(sources, filters=[JUDGE], allow_weak_encoder=True, **how)
    assert len(allowed.notices) == 1
    assert open_reference(sources, filters=[], **how).notices == ()
    monkeypatch.setattr("evaluation.encoders.load.load_encoder", lambda *_, **__: GridEncoder())
    assert open_reference(sources, filters=[JUDGE], **how).notices == ()
