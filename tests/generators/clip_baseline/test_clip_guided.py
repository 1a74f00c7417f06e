"""The CLIP baseline: against open_clip itself, and by the laws of guidance."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from generators import BadImageError, GeneratorError, PromptTooLongError, load
from generators.clip_baseline.clip import embedded_clip, load_clip
from generators.clip_baseline.clip_guided import ClipGuidance, derived_seed, parse_uri
from generators.request import MAX_SEED
from generators.stable_diffusion.diffusion import DiffusionGenerator
from generators.stable_diffusion.sampling import Step

PROMPT = "a colonoscopy image of a polyp"


def _cosines(prompt: str, images: list[Image.Image]) -> np.ndarray:
    """By open_clip's own model, transform and tokenizer."""
    import open_clip

    where = f"local-dir:{embedded_clip()}"
    model, _, transform = open_clip.create_model_and_transforms(where)
    model.eval()
    with torch.no_grad():
        pixels = model.encode_image(torch.stack([transform(image) for image in images]), normalize=True)
        text = model.encode_text(open_clip.get_tokenizer(where)([prompt]), normalize=True)
    return (pixels @ text[0]).numpy()


def _candidates(base: DiffusionGenerator, prompt: str, seed: int, n: int) -> list[Image.Image]:
    return list(base.generate([base.request(prompt, derived_seed(seed, i), steps=3) for i in range(n)]))


def test_similarity_is_that_of_open_clip(micro: DiffusionGenerator) -> None:
    images = [image.resize((64, 64)) for image in _candidates(micro, "a", 0, 3)]
    clip = load_clip("embedded", device=torch.device("cpu"))
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
    cosines = (clip.images(pixels / 127.5 - 1) @ clip.text(PROMPT)).numpy()
    np.testing.assert_allclose(cosines, _cosines(PROMPT, images), atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (80, 120), (32, 32)])
def test_resize_and_crop_are_near_those_of_open_clip(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize(size, Image.BICUBIC)  # type: ignore[attr-defined]
    clip = load_clip("embedded", device=torch.device("cpu"))
    pixels = torch.from_numpy(np.array(smooth)).permute(2, 0, 1)[None]
    cosine = float((clip.images(pixels / 127.5 - 1) @ clip.text(PROMPT))[0])
    assert cosine == pytest.approx(_cosines(PROMPT, [smooth])[0], abs=0.01)


def test_best_of_n_is_the_candidate_most_similar_to_the_prompt(
    micro_folder: Path, micro: DiffusionGenerator
) -> None:
    guided = load(f"clip-guided:{micro_folder}?n=3", device="cpu", batch_size=4)
    requests = [guided.request(prompt, seed, steps=3) for seed, prompt in enumerate(["a polyp", "clip"])]
    for request, image in zip(requests, guided.generate(requests), strict=True):
        candidates = _candidates(micro, request.prompt, request.seed, 3)
        best = int(_cosines(request.prompt, candidates).argmax())
        assert np.array_equal(np.asarray(image), np.asarray(candidates[best]))


def test_one_candidate_and_no_push_are_the_base_itself(micro_folder: Path, micro: DiffusionGenerator) -> None:
    (plain,) = micro.generate([micro.request("a", 5, steps=3)])
    for settings in ("n=1", "mode=gradient&scale=0"):
        guided = load(f"clip-guided:{micro_folder}?{settings}", device="cpu", batch_size=4)
        (image,) = guided.generate([guided.request("a", 5, steps=3)])
        assert np.array_equal(np.asarray(image), np.asarray(plain))


@pytest.mark.slow
def test_alignment_rises_on_the_embedded_model() -> None:
    alignment = {}
    for uri in ("embedded", "clip-guided:embedded?n=3", "clip-guided:embedded?mode=gradient"):
        generator = load(uri, device="cpu", batch_size=4)
        requests = [generator.request(PROMPT, seed, steps=6) for seed in range(4)]
        alignment[uri] = _cosines(PROMPT, list(generator.generate(requests)))
    plain, best, pushed = alignment.values()
    assert (best >= plain - 1e-6).all()  # the plain image is one of the candidates
    assert best.mean() > plain.mean()
    assert pushed.mean() > plain.mean() + 0.02


def _estimate(z: torch.Tensor) -> torch.Tensor:
    return torch.tanh(z) * 0.5 + 0.1


@pytest.mark.parametrize("signal", [0.05, 0.5, 0.95])
def test_push_is_one_thing_in_every_parametrization(micro_folder: Path, signal: float) -> None:
    guided = load(f"clip-guided:{micro_folder}?mode=gradient&scale=1", device="cpu", batch_size=4)
    latents = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    image, noise = math.sqrt(signal), math.sqrt(1 - signal)
    # How each parametrization says the same estimate of the image, and how the estimate is read back.
    says = {
        "epsilon": lambda z: (z - image * _estimate(z)) / noise,
        "v_prediction": lambda z: (image * z - _estimate(z)) / noise,
        "sample": _estimate,
    }
    reads = {
        "epsilon": lambda z, p: (z - noise * p) / image,
        "v_prediction": lambda z, p: image * z - noise * p,
        "sample": lambda z, p: p,
    }
    requests = [guided.request(PROMPT, seed) for seed in range(2)]
    pushed = []
    for kind, predict in says.items():
        step = Step(
            latents=latents,
            signal=signal,
            predict=predict,
            prediction_type=kind,
            decode=lambda images: images,
            requests=requests,
        )
        pushed.append(reads[kind](latents, guided._steer(step)))  # type: ignore[attr-defined]
    for other in pushed[1:]:
        torch.testing.assert_close(other, pushed[0], atol=1e-5, rtol=1e-4)
    # and it is the gradient of the cosine, by open_clip's own model, up to the known factor
    clip = guided._clip  # type: ignore[attr-defined]
    z = latents.clone().requires_grad_(True)
    shown = ((_estimate(z) * 0.5 + 0.5).clamp(0, 1) - 0.5) / 0.25
    cosine = (F.normalize(clip._model.encode_image(shown), dim=1) @ clip.text(PROMPT)).sum()
    (gradient,) = torch.autograd.grad(cosine, z)
    change = -noise / image * gradient
    size = change.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    expected = _estimate(latents) - noise * change * torch.clamp(0.3 / size, max=1)
    torch.testing.assert_close(pushed[2], expected, atol=1e-5, rtol=1e-3)


def test_derived_seeds_are_valid_and_differ() -> None:
    seeds = [derived_seed(seed, index) for seed in (0, 1, MAX_SEED) for index in range(64)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed <= MAX_SEED for seed in seeds)
    assert derived_seed(7, 0) == 7


def test_fingerprint_holds_all_that_changes_images(micro_folder: Path, tmp_path: Path) -> None:
    copy, changed = tmp_path / "copy", tmp_path / "changed"
    for folder in (copy, changed):
        shutil.copytree(embedded_clip(), folder)
    path = changed / "open_clip_model.safetensors"
    weights = load_file(path)
    weights["logit_scale"] = weights["logit_scale"] + 1
    save_file(weights, path)
    settings = ["", "?n=2", "?mode=gradient", "?mode=gradient&scale=5", f"?clip={changed}"]
    generators = [load(f"clip-guided:{micro_folder}{text}", device="cpu") for text in settings]
    fingerprints = {generator.fingerprint for generator in generators}
    assert len(fingerprints) == len(settings)
    same = [load(f"clip-guided:{micro_folder}{text}", device="cpu") for text in ("?n=4", f"?clip={copy}")]
    assert [generator.fingerprint for generator in same] == [generators[0].fingerprint] * 2


def test_bad_image_is_blamed_on_the_request_that_wanted_it(micro_folder: Path) -> None:
    guided = load(f"clip-guided:{micro_folder}?n=2", device="cpu", batch_size=2)
    with torch.no_grad():
        guided._base._pipeline.vae.decoder.conv_out.bias.fill_(float("nan"))  # type: ignore[attr-defined]
    request = guided.request("a", 11, steps=1)
    with pytest.raises(BadImageError, match=r"seed 11.*not finite") as caught:
        list(guided.generate([request]))
    assert [image.request for image in caught.value.images] == [request]


def test_prompt_too_long_for_the_clip_is_refused(micro_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guided = load(f"clip-guided:{micro_folder}", device="cpu")
    monkeypatch.setattr(guided._clip, "count_tokens", lambda text: 10 * len(text))  # type: ignore[attr-defined]
    assert guided.request("short", 1)
    with pytest.raises(PromptTooLongError) as caught:
        guided.request("0123456789", 1)
    assert (caught.value.count, caught.value.limit) == (100, 77)


def test_requests_of_the_base_are_refused(micro_folder: Path, micro: DiffusionGenerator) -> None:
    guided = load(f"clip-guided:{micro_folder}", device="cpu", batch_size=4)
    with pytest.raises(GeneratorError, match="request was made for generator"):
        guided.generate([micro.request("a", 1)])
    with pytest.raises(GeneratorError, match="request was made for versions"):
        guided.generate([replace(guided.request("a", 1), versions="other")])


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("clip-guided:", "another generator's URI"),
        ("clip-guided:clip-guided:embedded", "another generator's URI"),
        ("clip-guided:embedded?m=4", "settings are clip, mode, n, scale"),
        ("clip-guided:embedded?n=4&n=5", "at most once"),
        ("clip-guided:embedded?mode=worst", "mode is 'worst'"),
        ("clip-guided:embedded?n=0", "n is 0"),
        ("clip-guided:embedded?n=many", "n is 'many'"),
        ("clip-guided:embedded?mode=gradient&scale=nan", "scale is nan"),
        ("clip-guided:embedded?mode=gradient&n=3", "n does nothing"),
        ("clip-guided:embedded?scale=3", "scale does nothing"),
        ("clip-guided:embedded?n", "key=value"),
        ("clip-guided:embedded?clip=nowhere", r"nowhere/open_clip_config\.json is missing"),
        ("clip-guided:embedded?clip=open_clip:No/such", "open_clip knows no such weights"),
    ],
)
def test_wrong_addresses_are_refused(uri: str, said: str) -> None:
    with pytest.raises(GeneratorError, match=said):
        load(uri, device="cpu")


def test_address_is_read() -> None:
    assert parse_uri("clip-guided:hf:a/b@v1?clip=open_clip:ViT-B-32/laion2b_s34b_b79k&n=8") == ClipGuidance(
        base="hf:a/b@v1", clip="open_clip:ViT-B-32/laion2b_s34b_b79k", n=8
    )
    assert parse_uri("clip-guided:embedded?clip=a+b&mode=gradient&scale=2.5") == ClipGuidance(
        base="embedded", clip="a+b", mode="gradient", scale=2.5
    )


def _drop_weights(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").rename(folder / "open_clip_model.bin")


def _cut_weights(folder: Path) -> None:
    path = folder / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])


def _run_code(folder: Path) -> None:
    path = folder / "open_clip_config.json"
    path.write_text(
        path.read_text().replace(
            '"text_cfg": {', '"text_cfg": {"tokenizer_kwargs": {"trust_remote_code": true},'
        )
    )


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_drop_weights, "only safetensors"),
        (_cut_weights, "cannot be loaded"),
        (_run_code, "trust_remote_code"),
    ],
)
def test_unfit_clip_folders_are_refused(tmp_path: Path, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(embedded_clip(), tmp_path / "clip")
    damage(tmp_path / "clip")
    with pytest.raises(GeneratorError, match=said):
        load_clip(str(tmp_path / "clip"), device=torch.device("cpu"))
