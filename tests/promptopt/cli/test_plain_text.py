"""Nothing that comes from a file acts on the terminal, and commands that are printed can be copied."""

from __future__ import annotations

import ast
import json
import logging
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from promptopt.base.reading import printable
from promptopt.cli._sets import print_sets
from promptopt.cli._text import WARNING, say, terminal
from promptopt.cli.main import main
from promptopt.run.prompts import read_prompts, write_prompts
from promptopt.study.sets.run import SetResult
from tests.promptopt.small_run import SmallRun

CLI = Path(__file__).parents[3] / "promptopt" / "cli"
ESCAPES = "\x1b[2J\x1b[31mred\x1b]0;title\x07\x1b]52;c;YQ==\x1b\\\x9b1m\u202e\r\x08"


@given(st.text(st.characters()))
def test_what_is_printed_has_no_controls_and_keeps_the_rest(text: str) -> None:
    shown = printable(text)
    assert not any((c < " " and c not in "\n\t") or "\x7f" <= c <= "\x9f" for c in shown)
    shown.encode()
    assert printable(shown) == shown
    if text.isprintable() and not any("\u202a" <= c <= "\u2069" for c in text):
        assert shown == text


def test_lines_and_tables_drop_sequences_and_keep_their_own_colors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from rich.table import Table
    from rich.text import Text

    say(f"a {ESCAPES}polyp", title="Error: ", fg="red")
    assert capsys.readouterr().out.replace("\x1b[31mError: \x1b[0m", "Error: ") == "Error: a redpolyp\n"
    table = Table("prompt")
    table.add_row(Text(f"a {ESCAPES}polyp"))
    console = terminal(force_terminal=True, color_system="standard", width=40)
    console.print(table, style="bold")
    shown = capsys.readouterr().out
    assert "polyp" in shown
    assert "\x1b[1m" in shown
    assert not any(part in shown for part in ("\x1b[2J", "\x1b]", "\x07", "\u202e", "\x08"))


def test_every_command_prints_through_it() -> None:
    for file in CLI.glob("*.py"):
        if file.name == "_text.py":
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("typer.echo", "typer.secho", "print", "Console", "click.echo"), (
                    file,
                    name,
                )


def test_every_warning_has_one_form() -> None:
    for file in CLI.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                begins = node.value.lstrip().lower().startswith("warning:")
                assert not begins or (file.name, node.value) == ("_text.py", WARNING), (file, node.value)


def test_prompts_names_errors_and_warnings_with_escapes(
    shared_run: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shared_run.copied(tmp_path)
    content = read_prompts(run.folder / "prompts.json")
    entries = [entry.model_copy(update={"prompt": ESCAPES + entry.prompt}) for entry in content.prompts]
    write_prompts(run.folder / "prompts.json", content.model_copy(update={"prompts": entries}))
    settings = tmp_path / "settings.yaml"
    settings.write_text(json.dumps({"name": ESCAPES, ESCAPES: 1}))
    for words in (
        ["study", "show", run.folder],
        ["data", "check", f"none{ESCAPES}"],
        ["study", "run", settings],
    ):
        done = CliRunner().invoke(main, [*map(str, words)])
        assert "red" in done.output
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(done.output)
    logging.getLogger("generators.store").warning("%s is damaged", ESCAPES)
    assert "\x1b" not in capsys.readouterr().err


def test_the_next_commands_of_a_run_of_sets_are_shell_words(
    shared_sets: SetResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a b; $(x) 'c"
    sets = shared_sets.sets.model_copy(
        update={"generator": shared_sets.sets.generator.model_copy(update={"uri": "my models/sd#1"})}
    )
    print_sets(sets, folder)
    lines = [line.strip() for line in capsys.readouterr().out.split("Next:")[1].splitlines()]
    augment, synthesize = (shlex.split(line) for line in lines if line.startswith("promptopt"))
    assert augment[:3] == ["promptopt", "augment", str(folder)]
    assert synthesize[:4] == ["promptopt", "synthesize", "--prompts", str(folder)]
    assert "my models/sd#1" in synthesize


def options(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """(command, function) of every command."""
    found = [
        (" ".join((*path, c.name or c.callback.__name__)), c.callback) for c in command.registered_commands
    ]
    for one in command.registered_groups:
        found += options(one.typer_instance, (*path, one.name or ""))
    return found


def test_every_option_that_takes_a_float_refuses_nan_and_infinity() -> None:
    import inspect
    import typing

    seen = 0
    for name, function in options(main):
        for parameter in inspect.signature(function).parameters.values():
            kind, *rest = typing.get_args(parameter.annotation) or (parameter.annotation,)
            if float not in (kind, *typing.get_args(kind)):
                continue
            given = next(one for one in rest if hasattr(one, "callback"))
            with pytest.raises(typer.BadParameter, match="finite"):
                given.callback(float("nan"))
            with pytest.raises(typer.BadParameter, match="finite"):
                given.callback(float("inf"))
            assert given.callback(0.5) == 0.5, name
            seen += 1
    assert seen > 4
    for words in (
        ["classify", "a", "b", "--ratios", "1,nan"],
        ["augment", "a", "--out", "b", "--ratio", "nan"],
    ):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 2, words
        assert "nan" in done.output


def test_arguments_that_are_no_utf8_are_refused() -> None:
    done = CliRunner().invoke(main, ["template", "count", "a \udcff polyp"])
    assert done.exit_code == 2
    assert "is not UTF-8" in done.output


def test_an_eps_called_png_starts_no_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.promptopt.fakes import write_squares

    tools, started, data = tmp_path / "tools", tmp_path / "started", write_squares(tmp_path / "data", each=4)
    tools.mkdir()
    (tools / "gs").write_text(f"#!/bin/sh\ntouch '{started}'\n")
    (tools / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    for picture in data.glob("images/*.png"):
        own = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%{picture.name}\nshowpage\n"
        picture.write_bytes(own.encode())
    store = ["--store", str(tmp_path / "store")]
    for words in (
        ["data", "check", str(data), "--images"],
        ["data", "sheet", str(data), str(tmp_path / "sheet.png")],
        ["evaluate", str(data), str(data), "--encoder", "thumbnail", "--metrics", "mmd", *store],
        ["classify", str(data), str(data), "--encoder", "thumbnail", *store],
    ):
        done = CliRunner().invoke(main, words)
        assert done.exit_code != 0, words
        assert "PostScript (EPS)" in done.output, words
        assert not started.exists(), words
