"""Every command that makes images takes the place where they are made, and refuses one that is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from promptopt.cli.main import main

COMMANDS = (
    *("study run", "generate", "synthesize", "augment", "transfer", "compare-generators"),
    "train dreambooth-lora",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_such_command_names_the_places(command: str) -> None:
    said = CliRunner().invoke(main, [*command.split(), "--help"], env={"COLUMNS": "200"})
    assert said.exit_code == 0
    assert "processes:N" in said.output


@pytest.mark.parametrize(
    "command", ["generate embedded polyp", "train dreambooth-lora --data none --init embedded"]
)
def test_a_place_that_is_none_is_refused_before_anything_is_loaded(command: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [*command.split(), "--out", str(out), "--on", "processes:many"]
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 2
    assert "number of processes is 'many'" in " ".join(said.output.split())
    assert not out.exists()


def test_workers_and_another_place_contradict_each_other(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("name: x\n")
    arguments = ["study", "run", str(study), "--workers", "2", "--on", "ray?workers=2"]
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 2
    assert "give one of the two" in " ".join(said.output.split())
