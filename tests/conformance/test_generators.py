"""Every kind of generator that ships, in the suite for them. A new kind is one more line in FACTORIES."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from generators import Generator, load
from generators.loading import EMBEDDED
from promptopt.testing.generators import DiffusionSuite
from tests.generators.micro import build_micro_pipeline, build_micro_xl_pipeline

# name -> makes a folder (the one argument is an empty one to build in), and the URI of what stands on it
FACTORIES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "micro": (lambda empty: build_micro_pipeline(empty / "sd"), "{folder}"),
    "micro-v": (
        lambda empty: build_micro_pipeline(empty / "sd", seed=1, prediction_type="v_prediction"),
        "{folder}",
    ),
    "micro-xl": (lambda empty: build_micro_xl_pipeline(empty / "xl", seed=2), "{folder}"),
    "embedded": (lambda _: EMBEDDED, "{folder}"),
    "clip-best": (lambda empty: build_micro_pipeline(empty / "sd"), "clip-guided:{folder}?n=2"),
    "clip-gradient": (lambda empty: build_micro_pipeline(empty / "sd"), "clip-guided:{folder}?mode=gradient"),
}


class TestGenerators(DiffusionSuite):
    @pytest.fixture(
        scope="class",
        params=[
            name if name == "micro" else pytest.param(name, marks=pytest.mark.slow) for name in FACTORIES
        ],
    )
    def place(
        self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> tuple[Path, str]:
        build, uri = FACTORIES[request.param]
        return build(tmp_path_factory.mktemp(request.param)), uri

    @pytest.fixture(scope="class")
    def load(self, place: tuple[Path, str]) -> Callable[[], Generator]:
        folder, uri = place
        return lambda: load(uri.format(folder=folder), device="cpu", batch_size=4)

    @pytest.fixture(scope="class")
    def load_altered(
        self, place: tuple[Path, str], generator: Generator, tmp_path_factory: pytest.TempPathFactory
    ) -> Callable[[], Generator]:
        folder, uri = place
        copy = tmp_path_factory.mktemp("altered") / "copy"
        shutil.copytree(folder, copy)
        assert load(uri.format(folder=copy), device="cpu").fingerprint == generator.fingerprint
        path = copy / "unet" / "diffusion_pytorch_model.safetensors"
        weights = load_file(path)
        weights["conv_in.bias"][0] += 1
        save_file(weights, path, metadata={"format": "pt"})
        return lambda: load(uri.format(folder=copy), device="cpu", batch_size=4)
