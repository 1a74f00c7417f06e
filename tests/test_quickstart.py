"""scripts/quickstart: its study files, and what it runs, with a `promptopt` that says what it was asked."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from promptopt.config.study_file import PhantomSettings, StudyConfig, load_study

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = REPOSITORY / "studies" / "files"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The script in a folder of its own, with an environment that is there already."""
    (tmp_path / "scripts" / "lib").mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts" / "quickstart", tmp_path / "scripts")
    (tmp_path / "scripts" / "lib" / "venv.sh").write_text(
        'venv=.venv\nprepare_venv() { echo "made for $1"; }\n'
    )
    program = tmp_path / ".venv" / "bin" / "promptopt"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "promptopt $*"\n')
    program.chmod(0o755)
    return tmp_path


def ran(clone: Path, *options: str) -> list[str]:
    done = subprocess.run(
        [clone / "scripts" / "quickstart", *options],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    return [
        line.removeprefix("promptopt ") for line in done.stdout.splitlines() if line.startswith("promptopt ")
    ]


def test_it_runs_one_study_of_sets(clone: Path) -> None:
    assert ran(clone) == ["study run studies/files/quickstart-coast.yaml"]
    assert ran(clone, "--store", "x") == ["study run studies/files/quickstart-coast.yaml --store x"]


def test_single_runs_the_three_older_ones(clone: Path) -> None:
    commands = ran(clone, "--single", "--trials", "2")
    assert commands == [
        f"study run studies/files/quickstart-{name}.yaml --trials 2"
        for name in ("polyps", "landmarks", "instruments")
    ]
    for name in ("polyps", "landmarks", "instruments"):
        assert load_study(FILES / f"quickstart-{name}.yaml").aim == "single"


def phantom(config: StudyConfig) -> PhantomSettings:
    assert not isinstance(config.data, str)
    return config.data.phantom


def test_the_coast_and_its_counterpart_at_home_differ_in_the_hospital_alone() -> None:
    coast, home = (load_study(FILES / f"quickstart-{name}.yaml") for name in ("coast", "home"))
    assert coast.aim == home.aim == "set"
    assert list(coast.classes) == ["polyp", "normal"]
    assert (phantom(coast).hospital, phantom(home).hospital) == ("coast", "home")
    assert phantom(coast).images == 40
    changed = home.override({"name": coast.name, "data.phantom.hospital": "coast"})
    assert changed.model_dump() == coast.model_dump()
