"""scripts/bench/walkthrough.py runs what the documentation and scripts/study_kvasir say, and nothing else."""

import importlib.util
import shlex
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.pages import REPOSITORY, RUN, pages
from tests.docs.test_docs import _command, _faults


@pytest.fixture(scope="module")
def walkthrough() -> ModuleType:
    path = REPOSITORY / "scripts" / "bench" / "walkthrough.py"
    spec = importlib.util.spec_from_file_location("walkthrough", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _of_study_kvasir() -> list[str]:
    text = (REPOSITORY / "scripts" / "study_kvasir").read_text().replace("\\\n", " ")
    for variable, value in (("$venv/bin/", ""), ("$source_folder", "SOURCE"), ("$work", "work/kvasir")):
        text = text.replace(variable, value)
    return [shlex.join(shlex.split(line)) for line in text.splitlines() if line.startswith('"promptopt"')]


def _named(line: str) -> tuple[str, set[str]]:
    """The command without its arguments, and the options that it is given."""
    words = shlex.split(line, comments=True)[1:]
    _, rest = _command(words)
    options = {word.split("=")[0] for word in rest if word.startswith("--")}
    return " ".join(words[: len(words) - len(rest)]), options


@pytest.mark.slow
def test_every_command_exists_with_its_options(walkthrough: ModuleType):
    for command in walkthrough.steps().values():
        assert not list(_faults(command)), command


@pytest.mark.slow
def test_every_command_and_option_stands_in_the_documentation(walkthrough: ModuleType):
    lines = [
        line
        for page in pages()
        for block in page.blocks
        if block.language in RUN and block.language != "python"
        for line in block.commands()
        if line.startswith("promptopt ") and "..." not in line
    ]
    documented: dict[str, set[str]] = defaultdict(set)
    for line in [*lines, *_of_study_kvasir()]:
        name, options = _named(line)
        documented[name] |= options
    for command in list(walkthrough.steps().values())[1:]:
        name, options = _named(command)
        assert name in documented, command
        assert options <= documented[name], f"{command}: {options - documented[name]} of no page"


def test_the_commands_of_study_kvasir_are_among_its_own(walkthrough: ModuleType):
    own = _of_study_kvasir()
    assert len(own) == 4
    assert set(own) <= {shlex.join(shlex.split(command)) for command in walkthrough.steps().values()}


def test_a_step_that_is_done_is_not_run_again(
    walkthrough: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    marks = tmp_path / "marks"
    commands = (
        f'# first\nbash -c "echo made | tee -a {marks}"\n# second\nbash -c "test -e {tmp_path}/ready"\n'
    )
    monkeypatch.setattr(walkthrough, "COMMANDS", commands)
    monkeypatch.setattr("sys.argv", ["walkthrough.py", "source", "--work", str(tmp_path)])
    with pytest.raises(SystemExit, match="second: exit code 1"):
        walkthrough.main()
    (tmp_path / "ready").touch()
    walkthrough.main()
    assert marks.read_text() == "made\n"
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in said[-2:]] == ["| first", "| second"]
    assert said[-2].endswith("| made |")
