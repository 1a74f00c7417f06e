"""The scripts that count and draw the house."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def script(name: str, *arguments: object) -> str:
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_this_house_has_rooms_and_no_circle() -> None:
    lines = script("rooms.py").splitlines()
    assert lines[0].endswith("folders, 0 loose modules)")
    assert "back arrows  0" in lines
    assert not any(line.startswith("circle") for line in lines)
    page = (ROOT / "docs" / "architecture.md").read_text()
    for row, line in (("rooms", lines[0]), ("arrows between rooms", lines[1])):
        number = line.split()[1]
        assert re.search(rf"^\| {row} \| \d+ \| {number} \|$", page, re.MULTILINE), f"{row}: now {number}"


def test_circle_between_loose_modules_is_counted(tmp_path: Path) -> None:
    package = tmp_path / "promptopt"
    package.mkdir()
    for name, imports in {
        "__init__": "",
        "top": "from promptopt import middle",
        "middle": "def f():\n    from promptopt import bottom",
        "bottom": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from promptopt import middle",
    }.items():
        (package / f"{name}.py").write_text(imports + "\n")
    said = script("rooms.py", tmp_path)
    assert "rooms        3 (0 folders, 3 loose modules)" in said
    assert "arrows       3" in said
    assert "in circles   2" in said
    assert "back arrows  1" in said
    assert "circle of 2 rooms: bottom, middle" in said


def test_picture_of_the_floors_is_that_of_the_contract() -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import floors
    finally:
        sys.path.pop(0)
    assert floors.TARGET.read_text() == floors.svg(), "run scripts/floors.py"
    rooms = {room for row in floors.floors() for room in row}
    assert floors.WHAT.keys() == rooms
