"""A step's prompts by the workers there are; a run that was begun keeps its number."""

from pathlib import Path

import pytest
import yaml

from generators.errors import GeneratorError
from promptopt.config.study_file import StudyConfig
from promptopt.study.step_width import with_proposals


def study(proposals: int | str) -> StudyConfig:
    return StudyConfig.model_validate(
        {"name": "reds", "aim": "single", "category": "polyps", "search": {"proposals_per_step": proposals}}
    )


@pytest.mark.parametrize(
    ("on", "expected"),
    [("here", 2), ("processes:1", 2), ("processes:8", 8), ("ray?gpus=12", 12), ("ray?workers=500", 16)],
)
def test_auto_grows_with_the_workers(on: str, expected: int, tmp_path: Path) -> None:
    assert with_proposals(study("auto"), folder=tmp_path, on=on).search.proposals_per_step == expected


def test_a_number_stays_whatever_the_workers(tmp_path: Path) -> None:
    assert with_proposals(study(5), folder=tmp_path, on="processes:8").search.proposals_per_step == 5


def test_a_run_that_was_begun_keeps_its_number_with_other_workers(tmp_path: Path) -> None:
    first = with_proposals(study("auto"), folder=tmp_path, on="processes:8")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(first.model_dump(mode="json")))
    again = with_proposals(study("auto"), folder=tmp_path, on="here")
    assert again.search == first.search


def test_an_unknown_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="--on is 'moon'"):
        with_proposals(study("auto"), folder=tmp_path, on="moon")


@pytest.mark.parametrize("value", [0, 1001, "all"])
def test_what_is_no_number_of_prompts_is_refused(value: int | str) -> None:
    with pytest.raises(ValueError, match="proposals_per_step"):
        study(value)
