"""A study's weights: fitted on one half of the confirmation, compared on the other, told to the reader."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptopt import Portfolio
from promptopt.config.study_file import StudyError, study_from_mapping
from promptopt.portfolio.mixture import mixture_form
from promptopt.run.prompts import read_prompts
from promptopt.scoring.objective import study_bandwidth
from promptopt.study.report.mixtures import mixture_sentence
from promptopt.study.run import StudyResult, run_study
from studies.dataset import read_dataset
from tests.promptopt.fakes import BEST, ColorEncoder, SquareGenerator, draw, study, write_squares

SMALL = {
    "search": {"trials": 6, "images": 6, "sampler": "random"},
    "confirm": {"top": 4, "images": 16},
    "score": {"alignment": 1, "utility": 0, "distance": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portfolio")
    write_squares(folder / "data")
    return folder


def run(folder: Path, *, name: str = "red-squares", given: Any = (BEST,), **portfolio: Any) -> StudyResult:
    config = study_from_mapping(study(folder, name=name, portfolio=portfolio, **SMALL), base=folder)
    return run_study(
        config,
        runs=folder / "runs",
        store=folder / "store",
        given=given,
        generator=SquareGenerator(),
        encoder=ColorEncoder(),
    )


def features(folder: Path, pool: str) -> np.ndarray:
    real = read_dataset(folder / "data").where(category="red", pool=pool)  # type: ignore[arg-type]
    return ColorEncoder().encode_images([Image.open(path) for path in real.paths()])


def made(prompt: str, seeds: list[int]) -> np.ndarray:
    return ColorEncoder().encode_images([draw(prompt, seed) for seed in seeds])


@pytest.mark.slow
def test_weights_are_fitted_on_one_half_and_compared_on_the_other(folder: Path) -> None:
    found = run(folder, alignment_floor=None, min_distance=0).prompts
    assert found.portfolio is not None
    seeds, prompts = found.seeds.confirmation, [entry.prompt for entry in found.prompts]
    width = study_bandwidth(features(folder, "reference"), made("a square", found.seeds.search))
    expected = Portfolio.fit(
        {prompt: made(prompt, seeds[::2]) for prompt in prompts},
        features(folder, "validation"),
        bandwidth=width,
    )
    weights = {entry.prompt: entry.weight for entry in found.prompts if entry.weight}
    assert weights == pytest.approx(dict(expected.weights), abs=2e-4)
    assert sum(weights.values()) == pytest.approx(1)
    form = mixture_form(
        {prompt: made(prompt, seeds[1::2]) for prompt in prompts}, features(folder, "test"), bandwidth=width
    )
    shares = {
        "portfolio": [weights.get(prompt, 0.0) for prompt in prompts],
        "single_best": [1.0] + [0.0] * (len(prompts) - 1),
        "uniform_top": [0.25] * 4 + [0.0] * (len(prompts) - 4),
    }
    for name, row in shares.items():
        value = found.portfolio.compared[name].estimates["mmd"].value
        assert value == pytest.approx(form.mmd(row), abs=1e-4)
    assert (found.portfolio.images_fitted, found.portfolio.images_compared) == (8, 8)
    assert "validation" in found.weights_note


@pytest.mark.slow
def test_the_portfolio_is_in_the_report_and_changes_no_image(folder: Path) -> None:
    first = run(folder, name="shown")
    text = first.report_path.read_text(encoding="utf-8")
    sentence = mixture_sentence(first.prompts)
    assert sentence is not None
    assert sentence in text
    assert "Portfolio minus the first prompt alone" in text
    bytes_before = first.prompts_path.read_bytes()
    assert run(folder, name="shown").prompts_path.read_bytes() == bytes_before
    other = run(folder, name="shown", size=2)  # a finished study, weighed anew
    assert other.generated == 0
    assert sum(entry.weight > 0 for entry in other.prompts.prompts) <= 2


def test_a_portfolio_of_one_is_the_first_prompt(folder: Path) -> None:
    found = run(folder, name="one", size=1)
    assert [entry.weight for entry in found.prompts.prompts] == [1.0] + [0.0] * (
        len(found.prompts.prompts) - 1
    )
    assert found.prompts.portfolio is None
    assert mixture_sentence(found.prompts) is None
    assert "The portfolio" not in found.report_path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_floor_keeps_misaligned_prompts_out(folder: Path) -> None:
    found = run(
        folder, name="floor", given=[BEST, "a tiny blue square on white"], alignment_floor=0.3
    ).prompts
    assert found.portfolio is not None
    floor = found.portfolio.alignment_floor
    low = {e.prompt for e in found.prompts if e.confirmation["alignment"].value < floor}  # type: ignore[operator]
    assert low
    assert low == {prompt for prompt, why in found.portfolio.left_out.items() if "below the floor" in why}
    assert not low & set(found.portfolio.compared["portfolio"].weights)
    nothing = run(folder, name="high", alignment_floor=50).prompts
    assert nothing.prompts[0].weight == 1
    assert "every prompt is below the alignment floor" in nothing.weights_note


def test_a_prompt_list_of_an_earlier_version_is_read(folder: Path, tmp_path: Path) -> None:
    content = json.loads(run(folder, name="old").prompts_path.read_text(encoding="utf-8"))
    del content["portfolio"], content["settings"]["portfolio"], content["checksum"]
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_prompts(path).portfolio is None


def test_an_unusable_sentence_model_stops_a_study_before_the_first_image(folder: Path) -> None:
    with pytest.raises(StudyError, match=r"portfolio\.sentence_model: 'no-such-package'"):
        run(folder, name="sentences", sentence_model="no-such-package")
