"""A study of single prompts without real images: the margin in an encoder, and a metric of the user's."""

from pathlib import Path

import numpy as np
import pytest

from promptopt.config.study_file import StudyError, study_from_mapping
from promptopt.scoring.objective import ImageMetric
from promptopt.study.run import StudyResult, run_study, show
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, study

SMALL = {"search": {"trials": 6, "images": 4}, "confirm": {"top": 3, "images": 8}}


def content(folder: Path, **changes: object) -> dict:
    made = study(folder, data="none", **SMALL)
    return {key: value for key, value in {**made, "data": None, **changes}.items() if value is not None}


def run(folder: Path, **changes: object) -> StudyResult:
    darkness = ImageMetric(
        "dark", lambda images: [-float(np.asarray(one).mean()) for one in images], weight=3.0
    )
    result = run_study(
        study_from_mapping(content(folder, **changes), base=folder),
        runs=folder / "runs",
        store=folder / "store",
        generator=SquareGenerator(),
        encoder=ColorEncoder(),
        metrics=(darkness,),
    )
    assert isinstance(result, StudyResult)
    return result


@pytest.mark.slow
def test_margin_and_own_metric_rank_prompts_and_nothing_real_is_claimed(tmp_path: Path) -> None:
    result = run(tmp_path, score={"alignment": 0.1})
    first = result.prompts.prompts[0]
    assert {"score", "alignment", "dark", "diversity"} <= set(first.confirmation)
    assert not {"mmd", "kid", "frechet", "utility", "distance", "synthetic_to_real", "copies"} & set(
        first.confirmation
    )
    dark = [entry.confirmation["dark"].value for entry in result.prompts.prompts]
    scores = [entry.confirmation["score"].value for entry in result.prompts.prompts]
    assert scores == sorted(scores, reverse=True)
    assert np.argmax(dark) == 0
    assert result.weights == {first.candidate: 1.0}
    page = result.report_path.read_text(encoding="utf-8")
    assert "phantom" not in page.split("</style>")[-1].lower()
    assert "no real image was looked at" in page
    again = run(tmp_path, score={"alignment": 0.1})
    assert again.nothing_new
    assert show(result.folder).prompts == result.prompts


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"aim": "set", "score": None}, "data: missing"),
        ({"score": {"utility": 1.0}}, "score: utility and distance"),
        ({"constraints": {"copies": 0.1}}, "constraints.copies"),
    ],
)
def test_what_needs_real_images_is_refused_without_them(changes: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=said):
        study_from_mapping({**content(tmp_path), **changes}, base=tmp_path)


def test_resolved_study_reads_back(tmp_path: Path) -> None:
    config = study_from_mapping(content(tmp_path), base=tmp_path)
    assert config.override({"seed": 4}).single_score == config.single_score
    assert (config.single_score.utility, config.single_score.distance) == (0, 0)
