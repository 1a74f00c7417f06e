"""Ray on this machine, for tests that make images by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import pytest


def needs_ray() -> None:
    """Skip where Ray is missing; not imported here, as who opens it says before how it is to listen."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'promptopt[ray]'")


@contextmanager
def local_ray() -> Iterator[None]:
    """Ends what was started on this machine in the block."""
    needs_ray()
    yield
    import ray

    ray.shutdown()
