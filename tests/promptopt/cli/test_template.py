"""Templates from files as editors save them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from promptopt.cli.main import main

TEMPLATE = "a {small|large} polyp,\n\u200bin the {colon|rectum}\u200b"


def sample(path: Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["template", "sample", str(path), "-n", "3"])
    return done.exit_code, done.output


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_marks_and_zero_width_spaces_reach_no_prompt(tmp_path: Path, end: str) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(("\ufeff" + TEMPLATE.replace("\n", end)).encode())
    code, said = sample(path)
    assert code == 0
    prompts = said.splitlines()
    assert len(prompts) == 3
    assert all(one.startswith("a ") and one.endswith(("colon", "rectum")) for one in prompts)
    assert said.isascii()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        ("\ufeff \u200b\n".encode(), "is empty"),
        ("a \u00e9rythema".encode("cp1252"), "not UTF-8"),
        (TEMPLATE.encode("utf-16"), "UTF-16"),
        (b"a \x00polyp", "NUL"),
        (None, "no such file"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "t.txt"
    if content is not None:
        path.write_bytes(content)
    code, output = sample(path)
    assert code == 2
    assert said in output
