"""Fixtures of the engine's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from promptopt.study.sets.run import SetResult
from tests.promptopt.small_run import SmallRun, small_run
from tests.promptopt.small_sets import two_classes


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """One small study for all tests, made by the first worker that asks; not to be changed."""
    base = _shared(tmp_path_factory, "shared-run")
    with FileLock(base.with_suffix(".lock")):
        return small_run(base)  # a finished study makes no image again


@pytest.fixture(scope="session")
def sets_run(tmp_path_factory: pytest.TempPathFactory) -> SetResult:
    """The same of a study of sets."""
    base = _shared(tmp_path_factory, "sets-run")
    with FileLock(base.with_suffix(".lock")):
        return two_classes(base)


def _shared(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder for all workers."""
    own = tmp_path_factory.getbasetemp()
    base = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    base.mkdir(exist_ok=True)
    return base
