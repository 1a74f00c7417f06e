"""A study that begins with the sets of an earlier one."""

import json
import shutil

import pytest

from promptopt.config.study_file import StudyError
from tests.promptopt.set_run import square_category, square_study
from tests.promptopt.small_run import small_run


def warm(runs, **changes):
    return {"search": {"proposals_per_step": 3, "warm_start": [str(run) for run in runs]}, **changes}


def test_a_study_begins_with_the_sets_of_an_earlier_one(tmp_path, shared_sets, shifted_data):
    with square_study(tmp_path, shifted_data, name="next", **warm([shared_sets.folder])) as study:
        asked = study.ask()
    for entry in shared_sets.sets.classes:
        first = [one.candidate for one in asked if one.label == entry.label]
        inside = [one for one in entry.set.weights if one.prompt != entry.baseline]
        assert first[0].prompt == entry.baseline
        assert first[1 : 1 + len(inside)] == inside  # the largest weights first
        assert inside


def test_a_set_that_does_not_fit_is_refused(tmp_path, shared_sets, shifted_data):
    own = {label: {"category": square_category(label)} for label in ("red", "blue")}
    own["red"]["category"] |= {"template": "a {huge|wee} red square", "baseline": "a huge red square"}
    with (
        square_study(tmp_path, shifted_data, name="x", classes=own, **warm([shared_sets.folder])) as study,
        pytest.raises(StudyError, match="template of 'red', whose slots are slot1; theirs are slot1, slot2"),
    ):
        study.ask()


def test_another_class_is_refused_and_an_unfinished_study_too(tmp_path, shared_sets, shifted_data):
    only = {"classes": {"red": {"category": square_category("red")}}}
    with square_study(tmp_path / "one", shifted_data, name="one", **only) as study:
        study.tell(["a big red square"], label="red")
    unfinished = tmp_path / "one" / "runs" / "one"
    with (
        square_study(tmp_path, shifted_data, name="x", **warm([unfinished])) as study,
        pytest.raises(StudyError, match="not finished"),
    ):
        study.ask()
    renamed = shutil.copytree(shared_sets.folder, tmp_path / "renamed")
    content = json.loads((renamed / "prompts.json").read_text())
    del content["checksum"]  # as in files of earlier versions
    content["classes"][0]["label"] = "rouge"
    (renamed / "prompts.json").write_text(json.dumps(content))
    with (
        square_study(tmp_path, shifted_data, name="y", **warm([renamed])) as study,
        pytest.raises(StudyError, match=r"none of the studies has a class 'red': .* has rouge, blue"),
    ):
        study.ask()


@pytest.mark.slow
def test_a_study_of_single_prompts_can_begin_one_of_sets(tmp_path, shifted_data):
    single = small_run(tmp_path / "single")
    with (
        square_study(tmp_path, shifted_data, name="x", **warm([single.folder])) as study,
        pytest.raises(StudyError, match=r"no prompt of .* fits the template of 'red'"),
    ):
        study.ask()
