"""Fixtures shared by every test."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import postgres
from tests.local_ray import local_ray

# A loaded machine is slow, not wrong: no test fails for the time that an example takes.
settings.register_profile("promptopt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("promptopt")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real images; set PROMPTOPT_SHARED_DATA, or keep it beside the checkout."""
    folder = Path(os.environ.get("PROMPTOPT_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real patient images are not part of the project; none found at {folder}")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> Iterator[None]:
    """Nothing that a test keeps goes into the user's cache, or comes from it."""
    with (
        tempfile.TemporaryDirectory(prefix="promptopt-cache-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PROMPTOPT_CACHE", folder)
        yield


@pytest.fixture(scope="session")
def _postgres_of_session() -> Iterator[postgres.Server]:
    if (why := postgres.missing()) is not None:
        pytest.skip(why)
    with postgres.serving() as server:
        yield server


@pytest.fixture
def postgres_server(_postgres_of_session: postgres.Server) -> postgres.Server:
    """A PostgreSQL of this session's own, on the loopback interface; it runs, whatever a test before did."""
    _postgres_of_session.start()
    return _postgres_of_session


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where images are made, as `--on` has it: the test's parameter, by `indirect=True`."""
    on: str = request.param
    with local_ray() if on.startswith("ray") else nullcontext():
        yield on
