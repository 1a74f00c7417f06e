"""A user's own evaluation.py beside the script is named, in place of a riddle of the import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a folder of the user's; the project is on its path as an installed package is, behind it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["evaluation", "generators", "studies"])
@pytest.mark.parametrize("how", ["script", "command line", "imported before"])
def test_file_that_hides_a_package_is_named(name: str, how: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("MINE = True\n")
    first = f"import {name}\n" if how == "imported before" else ""
    (tmp_path / "script.py").write_text(f"{first}import promptopt\n")
    done = python(tmp_path, *(["-m", "promptopt", "--version"] if how == "command line" else ["script.py"]))
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()[-1]
    assert str(tmp_path / f"{name}.py") in said
    assert f"hides the package '{name}'" in said
    assert str(ROOT / name) in said
    assert "Rename" in said


def test_package_of_the_users_is_named(tmp_path: Path) -> None:
    (tmp_path / "generators").mkdir()
    (tmp_path / "generators" / "__init__.py").touch()
    (tmp_path / "script.py").write_text("import promptopt\n")
    done = python(tmp_path, "script.py")
    assert f"{tmp_path / 'generators' / '__init__.py'}: hides the package 'generators'" in done.stderr


def test_folder_without_init_and_other_files_are_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()  # a folder of study files; Python prefers a package to it
    (tmp_path / "metrics.py").touch()
    (tmp_path / "script.py").write_text("import promptopt, studies\nprint(studies.__file__)\n")
    done = python(tmp_path, "script.py")
    assert done.stdout.strip() == str(ROOT / "studies" / "__init__.py"), done.stderr
