"""Runs by name, in lists and side by side."""

import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from promptopt.cli.main import main
from promptopt.study.sets.run import SetResult
from tests.promptopt.small_run import SmallRun


@pytest.fixture
def place(
    tmp_path: Path, shared_run: SmallRun, shared_sets: SetResult, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder where `runs` holds a finished run of each kind and one that is not finished."""
    runs = tmp_path / "runs"
    runs.mkdir()
    shared_run.copied(runs).folder.rename(runs / "one")
    for name in ("sets", "begun"):
        (runs / name).mkdir()
        for path in shared_sets.folder.iterdir():
            if path.is_file() and (name == "sets" or path.name != "prompts.json"):
                os.link(path, runs / name / path.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*words: str, columns: int = 80, code: int = 0) -> str:
    done = CliRunner(env={"COLUMNS": str(columns)}).invoke(main, [*words])
    assert done.exit_code == code, done.output
    return done.output


def test_list_has_name_aim_state_and_sentence(place: Path, shared_sets: SetResult) -> None:
    text = said("study", "list", columns=400)
    rows = {
        line.split()[0]: line for line in text.splitlines() if line.startswith((" one", " sets", " begun"))
    }
    assert " single  finished " in rows["one"]
    assert " set " in rows["sets"]
    assert shared_sets.sets.sentence in rows["sets"]
    assert "not finished" in rows["begun"]
    assert "so far" in rows["begun"]
    assert max(map(len, said("study", "list").splitlines())) <= 80


def test_list_says_what_is_damaged_and_where_nothing_is(place: Path) -> None:
    (place / "runs" / "one" / "prompts.json").write_text("{}")
    assert "damaged" in said("study", "list", columns=400)
    assert "no such folder" in said("study", "list", "elsewhere", code=2)
    (place / "empty").mkdir()
    assert "no run is in it" in said("study", "list", "empty", code=2)


def test_a_name_is_enough_where_a_run_folder_is_expected(place: Path) -> None:
    assert said("study", "show", "one") == said("study", "show", "runs/one")
    assert "not a run folder" in said("study", "show", "two", code=2)


def test_single_prompts_fit_80_columns_with_every_number(place: Path) -> None:
    lines = said("study", "show", "one").splitlines()
    end = lines.index("Next:")
    table = [line for line in lines[:end] if "/" not in line]
    assert max(map(len, table)) <= 80
    assert "…" not in "".join(lines)
    wide = said("study", "show", "one", columns=300)
    (head,) = (line for line in lines if line.split()[:1] == ["rank"])
    assert head.split()[-1] == "p"
    for number in {row.split()[0] for row in wide.splitlines() if row.strip()[:1].isdigit()}:
        assert any(line.split()[:1] == [number] for line in lines)
    assert "promptopt review prefer runs/one --rater NAME" in lines[end + 1]


def test_compare_puts_runs_side_by_side_and_names_what_differs(place: Path, shared_run: SmallRun) -> None:
    text = said("study", "compare", "one", "sets", columns=300)
    rows = {line.split("  ")[0].strip(): line for line in text.splitlines()}
    assert "aim" in rows
    assert rows["aim"].split()[1:] == ["single", "set"]
    assert "different real images" in text
    same = said("study", "compare", "one", "runs/one", columns=300)
    assert "different real images" not in same
    assert "aim" not in {line.split("  ")[0].strip() for line in same.splitlines()}


def test_compare_refuses_one_run_and_one_that_is_not_finished(place: Path) -> None:
    assert "two runs" in said("study", "compare", "one", code=2)
    assert "no finished run" in said("study", "compare", "one", "begun", code=2)


def test_options_have_the_names_that_diffusers_scripts_use() -> None:
    aliases = {
        "--out": "--output-dir",
        "--steps": "--num-inference-steps",
        "--guidance": "--guidance-scale",
    }
    seen: set[str] = set()

    def walk(command: Any) -> None:
        for one in getattr(command, "commands", {}).values():
            walk(one)
        for parameter in command.params:
            names = set(parameter.opts)
            for name in names & aliases.keys():
                if "-o" in names:  # a file
                    continue
                of_training = name == "--steps" and command.name in ("augment", "classify")
                if not of_training:
                    assert aliases[name] in names, f"{command.name} {name}"
                    seen.add(name)

    walk(typer.main.get_command(main))
    assert seen == aliases.keys()
