"""Pictures that are none: counted, named, never handed out."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor

from generators import BadImage, BadImageError, ImageStore, fetch, load
from generators.stable_diffusion.diffusion import DiffusionGenerator
from generators.stable_diffusion.pixels import to_pictures


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_pictures_equal_those_of_diffusers(dtype: torch.dtype) -> None:
    decoded = torch.randn(3, 3, 40, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = VaeImageProcessor().postprocess(decoded, output_type="pil")
    for (picture, fault), other in zip(to_pictures(decoded), expected, strict=True):
        assert np.array_equal(np.asarray(picture), np.asarray(other))
        assert fault is None


def test_each_fault_is_told_from_a_picture() -> None:
    decoded = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    decoded[0, 1, 3, 3] = float("nan")
    decoded[1, 0, 0, 0] = float("inf")
    decoded[2] = -1
    decoded[3] = -5.0
    decoded[4] = torch.tensor([0.1, -0.3, 0.9]).view(3, 1, 1)
    decoded[5] = decoded[5] * 0.02  # a dull picture is one
    decoded[6] = -1
    decoded[6, :, :4, :4] = 0.5  # and so is a dark one with something in it
    faults = [fault for _, fault in to_pictures(decoded)]
    assert faults == ["not finite"] * 2 + ["black"] * 2 + ["of one color"] + [None] * 3


@pytest.mark.parametrize(
    ("bias", "fault"), [(float("nan"), "not finite"), (-1e4, "black"), (1e4, "of one color")]
)
def test_model_that_makes_no_pictures_is_an_error_naming_prompt_and_seed(
    micro_folder: Path, tmp_path: Path, bias: float, fault: str
) -> None:
    generator = DiffusionGenerator(micro_folder, device="cpu", batch_size=2)
    generator._pipeline.vae.decoder.conv_out.bias.fill_(bias)
    request = generator.request("a polyp", 11, steps=1)
    with pytest.raises(BadImageError, match=rf"1 of 1.*seed 11.*{fault}.*'a polyp'") as caught:
        list(generator.generate([request]))
    assert caught.value.counts == {fault: 1}
    with pytest.raises(BadImageError):
        fetch(ImageStore(tmp_path), generator, [request])
    assert not list(tmp_path.rglob("*.png"))


def test_the_other_images_of_the_batch_are_kept(
    micro_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from generators.stable_diffusion import sampling

    generator = load(micro_folder, device="cpu", batch_size=4)
    panel = [generator.request("a", seed, steps=2) for seed in range(9)]
    good = [np.asarray(image) for image in generator.generate(panel)]
    spoilt = {1, 3, 6}
    run = generator._run  # type: ignore[attr-defined]
    seeds: list[int] = []

    def watched(requests, steer=None):  # type: ignore[no-untyped-def]
        seeds[:] = [request.seed for request in requests]
        return run(requests, steer)

    def spoiling(pipeline, latents):  # type: ignore[no-untyped-def]
        decoded = sampling.decode(pipeline, latents)
        for row, seed in enumerate(seeds):
            if seed in spoilt:
                decoded[row] = -1
        return decoded

    monkeypatch.setattr(generator, "_run", watched)
    monkeypatch.setattr("generators.stable_diffusion.diffusion.decode", spoiling)
    images = generator.generate(panel)
    assert np.array_equal(np.asarray(next(images)), good[0])
    with pytest.raises(BadImageError, match="2 of 4") as caught:
        next(images)
    assert [image.request.seed for image in caught.value.images] == [1, 3]

    store = ImageStore(tmp_path)
    with pytest.raises(BadImageError, match="3 of 9") as caught:
        fetch(store, generator, panel)
    assert caught.value.counts == {"black": 3}
    stored = {request.seed: image for request in panel if (image := store.get(request)) is not None}
    sound = {request.seed: pixels for request, pixels in zip(panel, good, strict=True)}
    assert stored.keys() == sound.keys() - spoilt
    for seed, image in stored.items():
        assert np.array_equal(np.asarray(image.load()), sound[seed])


def test_error_survives_the_way_from_another_process(micro: DiffusionGenerator) -> None:
    error = BadImageError([BadImage(micro.request("a", 1), "black")], made=5)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.images, copy.made, str(copy)) == (error.images, error.made, str(error))
