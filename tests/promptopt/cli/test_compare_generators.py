"""`promptopt compare-generators` from the outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import evaluation.encoders.load
import generators.loading
from promptopt.cli.main import main
from tests.promptopt.comparison.planted import Deaf, write_two_centers
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, category


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def load(uri: str, **_: Any) -> SquareGenerator:
        return {"squares": SquareGenerator(), "deaf": Deaf()}[uri]

    monkeypatch.setattr(generators.loading, "load", load)
    monkeypatch.setattr(evaluation.encoders.load, "load_encoder", lambda *_, **__: ColorEncoder())
    monkeypatch.chdir(tmp_path)
    write_two_centers(tmp_path / "data")
    (tmp_path / "red.yaml").write_text(yaml.safe_dump(category()))
    return tmp_path


COMMAND = [
    "compare-generators",
    "data",
    "--out",
    "out",
    "--texts",
    "red.yaml",
    "--limit",
    "16",
    "--encoder",
    "colors",
]


@pytest.mark.slow
def test_tables_are_printed_and_everything_is_written(place: Path) -> None:
    command = [
        *COMMAND,
        "--generator",
        "good=squares?steps=7",
        "--generator",
        "deaf=deaf",
        "--words",
        "deaf:square=sks square",
        "--single",
        "east",
    ]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    for said in ("single center: east", "other center: west", "both", "FD (colors)", "memorized"):
        assert said in done.stdout
    assert "32 images: 32 generated now, 0 were there" in done.stdout
    assert "Warning: beside east the set has one center" in done.stderr
    assert {p.name for p in (place / "out").glob("table-*.tex")} == {
        "table-single-center-east.tex",
        "table-other-center-west.tex",
        "table-both.tex",
    }
    again = CliRunner().invoke(main, command)
    assert "32 images: 0 generated now, 32 were there" in again.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--generator", "squares"], "write NAME=URI"),
        (["--generator", "a=squares?size=3"], "'size' is no setting"),
        (["--generator", "a=squares?steps=many"], "steps is 'many'"),
        (["--generator", "../a=squares"], "generator name '../a'"),
        (["--generator", "a=squares", "--generator", "a=deaf"], "under its own name"),
        (["--generator", "a=squares", "--words", "b:red=sks red"], "write NAME:PHRASE=OWN"),
        (["--generator", "a=squares", "--words", "a:red"], "write NAME:PHRASE=OWN"),
        (["--generator", "a=squares", "--pool", "all"], "pool 'all' does not exist"),
        (["--generator", "a=squares", "--single", "north"], "centers are east, west"),
        (["--generator", "a=squares", "--prompts", "none.txt"], "none.txt: no such file"),
        (["--generator", "a=squares", "--texts", "nothing"], "category 'nothing' does not exist"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], said: str, place: Path) -> None:
    done = CliRunner().invoke(main, [*COMMAND, *words])
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert not (place / "out").exists()


def test_the_clip_baseline_keeps_its_own_settings() -> None:
    from promptopt.cli.compare_generators import _contender
    from promptopt.synthesis.plan import Sampling

    found = _contender("clip=clip-guided:embedded?mode=best&n=2&steps=5", Sampling())
    assert found.generator == "clip-guided:embedded?mode=best&n=2"
    assert found.sampling.steps == 5
