"""What reads the text alone runs once a batch, and no pixel changes."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from generators import load
from generators.stable_diffusion.diffusion import DiffusionGenerator
from generators.stable_diffusion.text_once import text_once
from tests.generators.micro import build_micro_xl_pipeline


def _images(generator: DiffusionGenerator) -> list[bytes]:
    requests = [
        generator.request(prompt, seed, steps=3, guidance=guidance, negative_prompt="blurred")
        for guidance in (1.0, 4.0)
        for seed, prompt in enumerate(("a polyp", "a clip", "a polyp"))
    ]
    return [np.asarray(image).tobytes() for image in generator.generate(requests)]


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_no_pixel_changes(
    family: str, micro_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = micro_folder if family == "sd" else build_micro_xl_pipeline(tmp_path / "xl")
    generator = load(folder, device="cpu", batch_size=2)
    assert isinstance(generator, DiffusionGenerator)
    once = _images(generator)
    monkeypatch.setattr("generators.stable_diffusion.diffusion.text_once", lambda unet: nullcontext())
    assert _images(generator) == once


def test_each_layer_that_reads_the_text_runs_once_a_batch_and_is_as_before_afterwards(
    micro_folder: Path,
) -> None:
    generator = load(micro_folder, device="cpu", batch_size=2)
    assert isinstance(generator, DiffusionGenerator)
    unet = generator._pipeline.unet
    layer = next(module for name, module in unet.named_modules() if name.endswith("attn2.to_k"))
    runs: list[int] = []
    forward = torch.nn.Linear.forward

    def counted(self: torch.nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
        if self is layer:
            runs.append(len(inputs))
        return forward(self, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Linear, "forward", counted)
        request = [generator.request("a polyp", seed, steps=5, guidance=2.0) for seed in range(4)]
        list(generator.generate(request))
    assert runs == [4, 4]  # two batches of two images, each with its negative prompt
    assert "forward" not in vars(layer)


def test_another_text_is_read_anew() -> None:
    block = torch.nn.ModuleDict({"attn2": torch.nn.ModuleDict({"to_k": torch.nn.Linear(3, 2)})})
    layer = block.get_submodule("attn2.to_k")
    one, other = torch.randn(2, 3), torch.randn(2, 3)
    plain = layer(one), layer(other)
    with text_once(block):
        assert layer(one) is layer(one)
        assert torch.equal(layer(other), plain[1])
        assert torch.equal(layer(one), plain[0])
