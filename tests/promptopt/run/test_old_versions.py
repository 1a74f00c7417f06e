"""A run folder of the version before is refused with a sentence, whatever one does with it."""

import json
from pathlib import Path

import optuna
import pytest

from promptopt.config.study_file import StudyError
from promptopt.run.folder import check_settings
from promptopt.run.images import RunImages
from promptopt.run.prompts import read_prompts, write_prompts
from promptopt.run.snapshot import read_rows
from promptopt.space import Candidate
from tests.promptopt.export.runs import prompt_list

SETTINGS = {"category": {"baseline": "a square"}, "seed": 0, "search": {"images": 8, "round": 2}}


def test_a_study_does_not_go_on_from_it(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    with pytest.raises(
        StudyError, match=r"settings\.json: written by an earlier version of promptopt.*--name"
    ):
        check_settings(tmp_path, SETTINGS)


def test_settings_of_this_version_are_taken_again(tmp_path: Path) -> None:
    check_settings(tmp_path, SETTINGS)
    check_settings(tmp_path, SETTINGS)
    with pytest.raises(StudyError, match="started with other settings"):
        check_settings(tmp_path, {**SETTINGS, "seed": 1})


def test_its_images_are_not_looked_for(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    (tmp_path / "store" / "images").mkdir(parents=True)
    with pytest.raises(StudyError, match="not the settings of a study of this version"):
        RunImages.open(tmp_path, store=tmp_path / "store")


def test_its_prompts_are_not_read(tmp_path: Path) -> None:
    path = write_prompts(tmp_path / "prompts.json", prompt_list())
    content = json.loads(path.read_text(encoding="utf-8"))
    assert read_prompts(path) == prompt_list()
    del content["checksum"]  # version 1 had none
    content["version"] = 1
    content["prompts"][0]["settings"] = {"guidance": 2}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(
        StudyError,
        match=r"version: 1 is of another version of promptopt, and this one reads 2. Run the study",
    ):
        read_prompts(path)


def test_its_trials_are_not_read(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=storage, study_name="search", direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=0.0, user_attrs={"prompt": "a square", "row": {}}))
    with pytest.raises(StudyError, match="trial 0 was written by an earlier version"):
        read_rows(tmp_path)


def test_candidates_are_read_from_prompts_as_they_were_written(tmp_path: Path) -> None:
    content = prompt_list()
    changes = {"prompt": "a polyp\nSettings: soft light", "generation_parameters": {"guidance": 2.0}}
    content.prompts[0] = content.prompts[0].model_copy(update=changes)
    again = read_prompts(write_prompts(tmp_path / "prompts.json", content)).prompts[0].candidate
    assert again == Candidate("a polyp\nSettings: soft light", None, {"guidance": 2.0})
