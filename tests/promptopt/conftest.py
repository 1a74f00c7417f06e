"""Fixtures of the engine's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from promptopt.study.sets.run import SetResult
from tests.promptopt.set_run import PLAIN, SHIFTED, square_study, write_real
from tests.promptopt.small_run import SmallRun, small_run


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """One small study for all tests, made by the first worker that asks; not to be changed."""
    own = tmp_path_factory.getbasetemp()
    base = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared-run"
    with FileLock(base.with_suffix(".lock")):
        base.mkdir(exist_ok=True)
        return small_run(base)  # a finished study makes no image again


@pytest.fixture(scope="session")
def shifted_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real images that differ from the baselines'."""
    return write_real(tmp_path_factory.mktemp("shifted") / "data", SHIFTED)


@pytest.fixture(scope="session")
def home_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real images as the baselines draw them."""
    return write_real(tmp_path_factory.mktemp("home") / "data", {k: (v,) for k, v in PLAIN.items()})


@pytest.fixture(scope="session")
def shared_sets(tmp_path_factory: pytest.TempPathFactory, shifted_data: Path) -> SetResult:
    """One finished run, not to be changed."""
    return square_study(tmp_path_factory.mktemp("sets"), shifted_data).run()  # type: ignore[return-value]


@pytest.fixture(scope="session")
def classified_sets(tmp_path_factory: pytest.TempPathFactory, shifted_data: Path) -> SetResult:
    """The same with classifiers in its confirmation."""
    confirm = {"images": 40, "classifier": {"seeds": 2, "steps": 10, "images": 12}}
    return square_study(tmp_path_factory.mktemp("classified"), shifted_data, confirm=confirm).run()  # type: ignore[return-value]
