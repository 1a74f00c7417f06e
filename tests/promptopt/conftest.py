"""Fixtures of the engine's tests."""

from __future__ import annotations

import os

import pytest
from filelock import FileLock

from tests.promptopt.small_run import SmallRun, small_run


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """One small study for all tests, made by the first worker that asks; not to be changed."""
    own = tmp_path_factory.getbasetemp()
    base = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared-run"
    with FileLock(base.with_suffix(".lock")):
        base.mkdir(exist_ok=True)
        return small_run(base)  # a finished study makes no image again
