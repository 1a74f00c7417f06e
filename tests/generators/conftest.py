"""Fixtures of the generators' tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from generators.stable_diffusion.diffusion import DiffusionGenerator


@pytest.fixture(scope="session")
def micro_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion folder; tests must not change it."""
    from tests.generators.micro import build_micro_pipeline

    return build_micro_pipeline(tmp_path_factory.mktemp("micro") / "sd")


@pytest.fixture(scope="session")
def micro(micro_folder: Path) -> DiffusionGenerator:
    """The tiny pipeline as a generator, batches of four, on the CPU."""
    from generators.stable_diffusion.diffusion import DiffusionGenerator

    return DiffusionGenerator(micro_folder, device="cpu", batch_size=4)


@pytest.fixture(scope="session")
def loras(micro_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters of the tiny pipeline in every layout: "a" and "b" are plain, "dora" is DoRA."""
    from generators.training.lora_export import save_lora
    from tests.generators.loras import adapted_pipeline

    root = tmp_path_factory.mktemp("loras")
    for name, settings in {"a": {"seed": 1}, "b": {"seed": 2, "r": 3}, "dora": {"use_dora": True}}.items():
        trained = adapted_pipeline(micro_folder, **settings)  # type: ignore[arg-type]
        save_lora(root / name, unet=trained.unet, text_encoder=trained.text_encoder, card="# A card")
    return {path.name: path for path in root.iterdir()}
