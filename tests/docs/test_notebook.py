"""The notebook of the docs runs from an empty folder, cell by cell, as a kernel would run it."""

import ast
import json
from pathlib import Path
from typing import Any

import pandas
import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "notebook.ipynb"


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Execute a cell; the value of its last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_the_text_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    shown = [run_cell(cell["source"], names) for cell in cells if cell["cell_type"] == "code"]
    study, result, prompts, frame, sheet, (nothing_new, heard) = shown
    assert repr(study) == "Study('notebook', aim='set': normal)"
    assert "<img " in result._repr_html_()
    assert sum(weight for weight, _ in prompts) == pytest.approx(1)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["prompt"]) == [prompt for _, prompt in prompts]
    assert sheet.size == (256, 128)
    assert nothing_new is True
    assert heard[-1] == ("normal", 16, len(prompts))
    assert list(Path("board").glob("events.*"))
    assert all(not cell.get("outputs") for cell in cells)  # nothing stale is kept
