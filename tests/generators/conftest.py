"""Fixtures of the generators' tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from generators.diffusion import DiffusionGenerator


@pytest.fixture(scope="session")
def micro_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion folder; tests must not change it."""
    from tests.generators.micro import build_micro_pipeline

    return build_micro_pipeline(tmp_path_factory.mktemp("micro") / "sd")


@pytest.fixture(scope="session")
def micro(micro_folder: Path) -> DiffusionGenerator:
    """The tiny pipeline as a generator, batches of four, on the CPU."""
    from generators.diffusion import DiffusionGenerator

    return DiffusionGenerator(micro_folder, device="cpu", batch_size=4)
