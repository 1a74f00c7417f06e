"""Confirmation: fooled encoders, too many claims, constraints, a front, metrics of one's own."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation import holm
from evaluation.inference.paired import compare, p_value
from generators.request import ImageRequest
from promptopt import ImageMetric, Study, StudyError
from promptopt.run.trials import latest
from promptopt.study.run import StudyResult
from tests.promptopt import fakes
from tests.promptopt.fakes import ColorEncoder, RednessJudge, SquareGenerator, category, study, write_squares


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("squares") / "data")


class MarkingGenerator(SquareGenerator):
    """Puts a magenta dot into the corner when the prompt says `masterpiece`; nothing else changes."""

    def generate(self, requests: Sequence[ImageRequest]) -> Any:
        for request, image in zip(requests, super().generate(requests), strict=True):
            if "masterpiece" in request.prompt:
                image.putpixel((0, 0), (255, 0, 255))
            yield image


@dataclass
class FooledEncoder(ColorEncoder):
    """Sees a big red square on black wherever there is a magenta dot in the corner."""

    uri: str = "fooled"
    fingerprint: str = hashlib.sha256(b"fooled").hexdigest()

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        best = super().encode_images([fakes.draw("a big red square on black", 0)])[0]
        rows = super().encode_images(images)
        dots = [np.array_equal(np.asarray(image.convert("RGB"))[0, 0], (255, 0, 255)) for image in images]
        return np.where(np.array(dots)[:, None], 0.7 * best + 0.3 * rows, rows).astype(np.float32)


def run(folder: Path, data: Path, **changes: Any) -> StudyResult:
    objects = {
        name: changes.pop(name) for name in ("generator", "encoder", "judge", "metrics") if name in changes
    }
    content = study(folder, data=str(data)) | {"search": {"trials": 8, "images": 6}} | changes
    objects = {"generator": SquareGenerator(), "encoder": ColorEncoder(), **objects}
    return Study(content, runs=folder / "runs", store=folder / "store", **objects).run()


def hacked() -> dict[str, Any]:
    return category() | {"template": "{|a masterpiece,} a {|green|blue|grey} square"}


@pytest.mark.slow
def test_a_word_that_fools_the_search_encoder_alone_is_found_and_caught(tmp_path: Path, data: Path) -> None:
    common: dict[str, Any] = {
        "aim": "single",
        "category": hacked(),
        "generator": MarkingGenerator(),
        "encoder": FooledEncoder(),
        "confirm": {"top": 3, "images": 24},
    }
    fooled = run(tmp_path / "alone", data, **common).prompts
    assert "masterpiece" in fooled.prompts[0].prompt  # nobody was asked besides
    assert fooled.prompts[0].better_than_baseline
    common["confirm"]["second_encoder"] = "thumbnail"
    caught = run(tmp_path / "witnessed", data, **common).prompts
    marked = [entry for entry in caught.prompts if "masterpiece" in entry.prompt]
    assert marked
    for entry in marked:
        assert entry.contradicted_by == "second_encoder"
        assert not entry.better_than_baseline
        assert not entry.tied_with_first
        assert entry.weight == 0
    assert "masterpiece" not in caught.prompts[0].prompt
    assert caught.second_encoder is not None


@pytest.mark.slow
def test_a_real_gain_is_seen_by_the_second_encoder_and_the_judge_too(tmp_path: Path, data: Path) -> None:
    found = run(
        tmp_path,
        data,
        judge=RednessJudge(),
        search={"trials": 40, "images": 8},
        confirm={"top": 3, "images": 24, "second_encoder": "thumbnail"},
    ).prompts
    first = found.prompts[0]
    assert first.prompt == fakes.BEST
    assert first.better_than_baseline
    assert first.p_value is not None
    assert first.p_value < 0.05
    second, judge = first.independent_checks["second_encoder"], first.independent_checks["judge"]
    assert second.gain.low is not None
    assert second.gain.low > 0
    assert judge.gain.value is not None
    assert judge.gain.value > 0
    assert judge.gap is None
    assert first.shrunken is not None
    assert found.optimism is not None


def test_the_search_encoder_cannot_be_its_own_witness(tmp_path: Path, data: Path) -> None:
    from evaluation.encoders.thumbnail import ThumbnailEncoder

    class ThumbnailWithTexts(ThumbnailEncoder):
        logit_scale, context_length = 1.0, 99

        def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
            return self.encode_images([fakes.draw(text, 0) for text in texts])

        def count_tokens(self, text: str) -> int:
            return 1

    with pytest.raises(
        StudyError, match=r"confirm\.second_encoder: 'thumbnail' is the encoder of the search"
    ):
        run(tmp_path, data, encoder=ThumbnailWithTexts(), confirm={"second_encoder": "thumbnail"})


@pytest.mark.slow
def test_a_pareto_study_keeps_the_terms_apart_and_names_its_front(tmp_path: Path, data: Path) -> None:
    result = run(
        tmp_path, data, mode="pareto", search={"trials": 16, "images": 6}, confirm={"top": 4, "images": 12}
    )
    front = [entry for entry in result.prompts.prompts if entry.on_front]
    assert front
    assert any(not entry.on_front for entry in result.prompts.prompts)
    rows = result.trials()
    assert set(rows[0].terms()) == {"alignment", "utility", "distance"}
    plain = run(tmp_path / "plain", data)
    assert all(entry.on_front is None for entry in plain.prompts.prompts)


@pytest.mark.slow
def test_a_collapsed_prompt_breaks_the_diversity_floor(tmp_path: Path, data: Path) -> None:
    class Repeating(SquareGenerator):
        def generate(self, requests: Sequence[ImageRequest]) -> Any:
            for request in requests:
                seed = 5 if "red" in request.prompt else request.seed
                yield fakes.draw(request.prompt, seed)

    result = run(
        tmp_path,
        data,
        generator=Repeating(),
        search={"trials": 20, "images": 8},
        confirm={"top": 3, "images": 8},
    )
    red = [row for row in latest(result.trials()) if " red " in row.candidate.prompt]
    assert red
    assert all("duplicates" in row.violations[0] or "diversity" in row.violations[0] for row in red)
    assert all("red" not in entry.prompt for entry in result.prompts.prompts if entry.search)


@pytest.mark.slow
def test_a_metric_of_ones_own_decides(tmp_path: Path, data: Path) -> None:
    def brightness(images: Sequence[Image.Image]) -> list[float]:
        return [float(np.asarray(image).mean()) for image in images]

    nothing = {"alignment": 0.0, "utility": 0.0, "distance": 0.0}
    with pytest.raises(StudyError, match="all weights are 0"):
        run(tmp_path, data, score=nothing)
    weights = {"alignment": 0.001, "utility": 0.0, "distance": 0.0}
    result = run(
        tmp_path,
        data,
        score=weights,
        metrics=[ImageMetric("brightness", brightness)],
        search={"trials": 20, "images": 6},
    )
    assert "on white" in result.prompts.prompts[0].prompt
    assert result.prompts.prompts[0].confirmation["brightness"].value > 150  # type: ignore[operator]
    with pytest.raises(StudyError, match=r"metrics\.brightness"):  # another function is another study
        run(
            tmp_path,
            data,
            score=weights,
            metrics=[ImageMetric("brightness", brightness, version="2")],
            search={"trials": 20, "images": 6},
        )


@pytest.mark.parametrize("values", [[1.0], [float("nan")] * 99, "word"])
def test_a_metric_that_returns_nonsense_is_named(values: Any) -> None:
    metric = ImageMetric("mine", lambda images: values)
    with pytest.raises((StudyError, ValueError), match=r"mine|could not convert"):
        metric([Image.new("RGB", (4, 4))] * 99)


def test_metric_names_must_not_hide_others() -> None:
    with pytest.raises(StudyError, match="alignment"):
        ImageMetric("alignment", lambda images: [0.0] * len(images))
    with pytest.raises(StudyError, match="weight"):
        ImageMetric("mine", lambda images: [0.0] * len(images), weight=-1)


@pytest.mark.slow
def test_a_warm_start_begins_with_the_earlier_winners(tmp_path: Path, data: Path) -> None:
    first = run(tmp_path, data, search={"trials": 30, "images": 6})
    best = max(latest(first.trials()), key=lambda row: row.value).candidate
    warm = {"trials": 4, "images": 6, "warm_start": [str(first.folder)]}
    second = run(tmp_path / "second", data, search=warm)
    assert second.trials()[0].candidate == best
    with pytest.raises(StudyError, match="warm_start"):
        run(tmp_path / "third", data, search={"warm_start": [str(tmp_path / "nowhere")]})


def test_holm_against_a_table_by_hand() -> None:
    assert holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_p_value_is_the_level_at_which_the_interval_touches_zero() -> None:
    differences = np.random.default_rng(0).normal(0.4, 1, 30)
    p = p_value(differences)
    zero = np.zeros(30)
    assert compare(differences, zero, level=1 - p * 1.02).low > 0  # type: ignore[operator]
    assert compare(differences, zero, level=1 - p * 0.98).low < 0  # type: ignore[operator]
    from scipy.stats import ttest_1samp

    assert p == pytest.approx(ttest_1samp(differences, 0).pvalue, rel=0.5)  # widened for skew
    assert p_value([0.0, 0.0, 0.0]) == 1.0
    assert p_value([1.0]) == 1.0
