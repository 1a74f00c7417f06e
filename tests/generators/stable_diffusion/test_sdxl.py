"""SDXL folders against diffusers' own pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from generators import GeneratorError, load
from generators.stable_diffusion.diffusion import DiffusionGenerator
from generators.stable_diffusion.schedulers import make_scheduler
from tests.generators.micro import build_micro_xl_pipeline

PROMPTS = ["a polyp", "", "a biopsy forceps, close"]
# Batches of three and of four round differently, which may tip a pixel over to the next of 256 levels.
LEVELS, SHARE = 1, 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_micro_xl_pipeline(tmp_path_factory.mktemp("xl") / "sdxl")


@pytest.fixture(scope="module")
def generator(folder: Path) -> DiffusionGenerator:
    return DiffusionGenerator(folder, device="cpu", batch_size=4)


def _oracle(folder: Path, dtype: torch.dtype = torch.float32) -> StableDiffusionXLPipeline:
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=dtype, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _difference(
    generator: DiffusionGenerator,
    oracle: StableDiffusionXLPipeline,
    *,
    negative: str = "",
    given: str | None = None,
    steps: int = 4,
    **settings: object,
) -> np.ndarray:
    """Absolute difference in levels of 255; `given` is what diffusers is told of the negative prompt."""
    expected = oracle(
        PROMPTS,
        negative_prompt=None if given is None else [given] * 3,
        num_inference_steps=steps,
        guidance_scale=settings.get("guidance", 5.0),
        height=settings.get("height"),
        width=settings.get("width"),
        generator=[torch.Generator().manual_seed(seed) for seed in range(3)],
        output_type="np",
    ).images
    requests = [
        generator.request(prompt, seed, negative_prompt=negative, steps=steps, **settings)  # type: ignore[arg-type]
        for seed, prompt in enumerate(PROMPTS)
    ]
    images = np.stack([np.asarray(image) for image in generator.generate(requests)])
    return np.abs(images.astype(int) - np.round(255 * expected).astype(int))


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["native", "dpmpp_2m", "dpmpp_2m_sde", "unipc"])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_images_equal_those_of_diffusers(
    folder: Path, generator: DiffusionGenerator, scheduler: str, guidance: float
) -> None:
    oracle = _oracle(folder)
    oracle.scheduler = make_scheduler(scheduler, oracle.scheduler)
    difference = _difference(
        generator, oracle, negative="blurry", given="blurry", scheduler=scheduler, guidance=guidance
    )
    assert difference.max() <= LEVELS
    assert (difference > 0).mean() < SHARE


def test_time_ids_follow_the_size(folder: Path, generator: DiffusionGenerator) -> None:
    difference = _difference(
        generator, _oracle(folder), negative="x", given="x", width=48, height=32, scheduler="native"
    )
    assert difference.max() <= LEVELS
    request = generator.request("a", 1, steps=3, width=48, height=32)
    (plain,) = generator.generate([request])
    told = generator._pipeline.unet.forward

    def untold(*args, added_cond_kwargs, **kwargs):  # type: ignore[no-untyped-def]
        ids = torch.zeros_like(added_cond_kwargs["time_ids"])
        return told(*args, added_cond_kwargs={**added_cond_kwargs, "time_ids": ids}, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator._pipeline.unet, "forward", untold)
        (other,) = generator.generate([request])
    assert np.asarray(plain).tobytes() != np.asarray(other).tobytes()


@pytest.mark.parametrize("zeros", [True, False])
def test_no_negative_prompt_means_what_the_model_says(tmp_path: Path, zeros: bool) -> None:
    folder = build_micro_xl_pipeline(tmp_path / "xl", zeros_for_empty=zeros)
    generator = DiffusionGenerator(folder, device="cpu", batch_size=4)
    difference = _difference(generator, _oracle(folder), scheduler="native")
    assert difference.max() <= LEVELS
    # An empty positive prompt is still read, and the two kinds of emptiness are told apart in one batch.
    rows = (generator._read("", negative=negative).embeddings.abs().sum() for negative in (False, True))
    assert [bool(total > 0) for total in rows] == [True, not zeros]


@pytest.mark.parametrize(("dtype", "vae"), [("float16", torch.float32), ("bfloat16", torch.bfloat16)])
def test_vae_is_upcast_where_it_overflows(folder: Path, dtype: str, vae: torch.dtype) -> None:
    generator = load(folder, device="cpu", batch_size=4, dtype=dtype)
    assert generator._pipeline.vae.dtype == vae  # type: ignore[attr-defined]
    oracle = _oracle(folder, torch.float16 if dtype == "float16" else torch.bfloat16)
    difference = _difference(generator, oracle, negative="x", given="x", steps=1, scheduler="native")  # type: ignore[arg-type]
    assert difference.mean() < 1  # levels of 255; the two batch sizes round differently


def test_vae_that_needs_no_upcast_is_left_alone(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "xl")
    path = tmp_path / "xl" / "vae" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "force_upcast": False}))
    generator = load(tmp_path / "xl", device="cpu", dtype="float16")
    assert generator._pipeline.vae.dtype == torch.float16  # type: ignore[attr-defined]


def test_latents_with_mean_and_deviation_are_restored(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "xl")
    path = tmp_path / "xl" / "vae" / "config.json"
    own = {"latents_mean": [0.5, -1.0, 2.0, 0.0], "latents_std": [2.0, 3.0, 0.5, 1.0]}
    path.write_text(json.dumps({**json.loads(path.read_text()), **own}))
    generator = DiffusionGenerator(tmp_path / "xl", device="cpu", batch_size=4)
    difference = _difference(generator, _oracle(tmp_path / "xl"), negative="x", given="x", scheduler="native")
    assert difference.max() <= LEVELS


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("text_encoder_2/config.json", r"text_encoder_2/config\.json is missing"),
        ("text_encoder_2/model.safetensors", r"text_encoder_2/model\.safetensors is missing"),
        ("tokenizer_2/tokenizer.json", r"tokenizer_2/tokenizer\.json is missing"),
    ],
)
def test_second_encoder_must_be_complete(folder: Path, tmp_path: Path, missing: str, said: str) -> None:
    shutil.copytree(folder, tmp_path / "xl")
    (tmp_path / "xl" / missing).unlink()
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "xl" / "tokenizer_2" / name).unlink(missing_ok=True)
    with pytest.raises(GeneratorError, match=said):
        load(tmp_path / "xl", device="cpu")


def test_fingerprint_and_defaults_are_its_own(folder: Path, tmp_path: Path) -> None:
    generator = load(folder, device="cpu")
    request = generator.request("a", 1)
    assert (request.guidance, request.width, request.height) == (5.0, 32, 32)
    shutil.copytree(folder, tmp_path / "xl")
    path = tmp_path / "xl" / "tokenizer_2" / "tokenizer_config.json"
    path.write_text(path.read_text() + "\n")
    assert load(tmp_path / "xl", device="cpu").fingerprint != generator.fingerprint
