"""The three passes over a study: what is cheap is checked before a network is opened, and paths stay here."""

import json
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
import yaml

import evaluation.encoders.load
import generators.loading
from promptopt.config.study_file import StudyError, study_from_mapping
from promptopt.space import Candidate
from promptopt.study.run import run_study
from promptopt.study.setup import prepare
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, category, study, write_squares


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("setup")
    write_squares(path / "data")
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"category": {**category(), "template": "a {red"}}, "template"),
        ({"category": {**category(), "distractors": {}}}, "distractors: none given"),
        ({"search": {"sampler": "enumerate", "trials": 4}}, "search.sampler: 'enumerate' tries every prompt"),
        ({"search": {"sampler": "os.path.join"}}, "search.sampler: 'os.path.join' is no class of samplers"),
        ({"search": {"sampler": "optuna.samplers.No"}}, "search.sampler: .* optuna.samplers has no No"),
        ({"search": {"warm_start": ["nowhere"]}}, "search.warm_start: .*nowhere: not a run folder"),
        ({"mode": "pareto", "score": {"alignment": 0, "utility": 0}}, "mode: 'pareto' needs two terms"),
        ({"positives": "pink"}, "positives: no image of .* has the category or label 'pink'"),
        ({"data": "nothing"}, "data: "),
        (
            {"category": {**category(), "negative_template": "{a|b}"}, "generator": {"negative_prompt": "c"}},
            "generator.negative_prompt: 'c' fixes what the negative_template",
        ),
    ],
)
def test_what_is_cheap_is_checked_before_a_network_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    def refuse(*given: object, **_: object) -> None:
        raise AssertionError(f"opened {given}")

    monkeypatch.setattr(generators.loading, "load", refuse)
    monkeypatch.setattr(evaluation.encoders.load, "load_text_encoder", refuse)
    config = study_from_mapping(study(folder, **changes), base=folder)
    with pytest.raises(StudyError, match=words):
        prepare(config, store=folder / "store")


def test_a_setup_is_whole_and_stays_as_it_is(folder: Path) -> None:
    config = study_from_mapping(study(folder), base=folder)
    setup = prepare(config, store=folder / "store", generator=SquareGenerator(), encoder=ColorEncoder())
    assert setup.baseline == Candidate("a square")
    assert setup.identity["generator"]["fingerprint"] == SquareGenerator().fingerprint
    own = setup.request(Candidate("a\nb", "c", {"guidance": 4.0}), 7)
    assert (own.prompt, own.negative_prompt, own.guidance, own.seed) == ("a\nb", "c", 4.0, 7)
    with pytest.raises(FrozenInstanceError):
        setup.identity = {}  # type: ignore[misc]


def test_results_hold_no_path_of_the_machine_and_the_study_file_only_absolute_ones(folder: Path) -> None:
    (folder / "models").mkdir(exist_ok=True)  # else these would be names on the hub
    changes = {
        "data": "data",
        "generator": {"uri": "models/sd", "named": {"other": "models/other"}},
        "encoder": "models/clip",
        "search": {"trials": 2, "images": 4, "racing": False},
        "confirm": {"top": 1, "images": 4},
    }
    result = run_study(
        study_from_mapping(study(folder, **changes), base=folder),
        runs=folder / "runs",
        store=folder / "store",
        generator=SquareGenerator(),
        encoder=ColorEncoder(),
    )
    assert result.prompts.generator.uri == "models/sd"
    assert result.prompts.encoder.uri == "models/clip"
    for name in ("prompts.json", "settings.json"):
        assert str(folder) not in (result.folder / name).read_text(encoding="utf-8")
    written = yaml.safe_load((result.folder / "study.yaml").read_text(encoding="utf-8"))
    assert written["data"] == f"{folder}/data"
    assert written["generator"]["uri"] == f"{folder}/models/sd"
    assert written["generator"]["named"] == {"other": f"{folder}/models/other"}
    assert written["encoder"] == f"{folder}/models/clip"
    assert json.loads(result.prompts_path.read_text(encoding="utf-8"))["version"] == 2
