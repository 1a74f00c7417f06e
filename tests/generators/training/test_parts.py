"""The pieces of the trainer, each against the fault that trainers in wide use have."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image
from transformers import CLIPTokenizer

from generators.training.captions import Captions, swap_sides
from generators.training.conditioning import check_lengths
from generators.training.images import Pictures, read_square
from generators.training.latents import LatentCache
from generators.training.noise import Noising, snr_weights
from generators.training.parts import Parts, build_scheduler, build_text_encoder
from generators.training.spec import RECIPES, RecipeError, SdTrainingSpec, load_recipe
from generators.training.tokenizer import save_tokenizer, train_tokenizer
from generators.training.vae import build_vae, encode, normalize_latents
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.order import seeded
from studies.dataset import Dataset

TEXTS = ["a small polyp on the left", "a large red polyp", "no polyp, two metal clips"] * 3


# --- latents -----------------------------------------------------------------------------------------------


def test_shuffling_cannot_pair_a_latent_with_another_pictures_caption(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    vae = build_vae(spec.vae, size=16).eval()
    records = list(data)
    cache = LatentCache(tmp_path / "latents", vae, size=16)
    cache.fill(Pictures(tuple(data.paths()), 16))

    # another order, other names, a cache read back from disk
    order = torch.randperm(len(records), generator=seeded(1, "t", 0)).tolist()
    moved = []
    for place, index in enumerate(order):
        moved.append(tmp_path / f"renamed-{place}.png")
        moved[-1].write_bytes(data.path(records[index]).read_bytes())
    pictures = Pictures(tuple(moved), 16)
    again = LatentCache(tmp_path / "latents", vae, size=16)
    steps: list[object] = []
    again.fill(pictures, on_progress=steps.append)
    assert steps == []
    mean, logvar = again.get(pictures.keys)
    for place, index in enumerate(order):
        own = torch.from_numpy(read_square(data.path(records[index]), 16).copy()).permute(2, 0, 1).float()
        wanted, spread = encode(vae, (own / 127.5 - 1)[None])
        torch.testing.assert_close(mean[place], wanted[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(logvar[place], spread[0], atol=1e-5, rtol=1e-4)


def test_latents_of_another_vae_or_of_the_mirror_are_never_used(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    pictures = Pictures(tuple(data.paths()[:3]), 16)
    one = LatentCache(tmp_path, build_vae(spec.vae, size=16, seed=0).eval(), size=16)
    one.fill(pictures)
    assert len(LatentCache(tmp_path, build_vae(spec.vae, size=16, seed=1), size=16)) == 0
    with pytest.raises(KeyError):
        one.get(pictures.keys, mirror=[True] * 3)
    one.fill(pictures, mirror=True)
    assert not torch.equal(one.get(pictures.keys), one.get(pictures.keys, mirror=[True] * 3))


def test_a_damaged_shard_is_encoded_again(spec: SdTrainingSpec, data: Dataset, tmp_path: Path) -> None:
    pictures = Pictures(tuple(data.paths()[:3]), 16)
    vae = build_vae(spec.vae, size=16).eval()
    cache = LatentCache(tmp_path, vae, size=16)
    cache.fill(pictures)
    (shard,) = cache.folder.iterdir()
    content = shard.read_bytes()
    shard.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    again = LatentCache(tmp_path, vae, size=16)
    assert len(again) == 0
    again.fill(pictures)
    assert torch.equal(again.get(pictures.keys), cache.get(pictures.keys))
    assert shard.read_bytes() == content


def test_normalized_latents_have_unit_variance_and_the_same_reconstructions(
    spec: SdTrainingSpec, data: Dataset
) -> None:
    vae = build_vae(spec.vae, size=16).eval()
    with torch.no_grad():
        vae.quant_conv.bias.add_(torch.tensor([3.0, -2.0, 0.5, 0.1]))
    pictures = Pictures(tuple(data.paths()), 16)
    images = pictures.batch(range(len(pictures)))
    with torch.no_grad():
        before = vae.decode(encode(vae, images)[0]).sample
        normalize_latents(vae, pictures, range(len(pictures)))
        mean, logvar = encode(vae, images)
        torch.testing.assert_close(vae.decode(mean).sample, before, atol=1e-4, rtol=1e-3)
    variance = mean.var(dim=(0, 2, 3), correction=0) + logvar.exp().mean(dim=(0, 2, 3))
    torch.testing.assert_close(variance, torch.ones(2), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(mean.mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-3, rtol=1e-3)


# --- noise -------------------------------------------------------------------------------------------------


def test_min_snr_weights_are_those_of_the_paper() -> None:
    snr = torch.tensor([0.25, 5.0, 20.0])
    v = snr_weights(snr, gamma=5.0, prediction_type="v_prediction")
    assert v.tolist() == pytest.approx([0.25 / 1.25, 5 / 6, 5 / 21])
    epsilon = snr_weights(snr, gamma=5.0, prediction_type="epsilon")
    assert epsilon.tolist() == pytest.approx([1.0, 1.0, 0.25])


def test_zero_terminal_snr_has_no_nan_at_the_last_timestep() -> None:
    scheduler = build_scheduler(prediction_type="v_prediction", zero_terminal_snr=True)
    noising = Noising.from_scheduler(scheduler, zero_terminal_snr=True, min_snr_gamma=5.0)
    clean, noise = torch.randn(1000, 1, 2, 2), torch.randn(1000, 1, 2, 2)
    steps = torch.arange(1000)
    for tensor in (noising.noised(clean, noise, steps), noising.target(clean, noise, steps)):
        assert bool(torch.isfinite(tensor).all())
    assert bool(torch.isfinite(noising.weights(steps)).all())
    assert float(noising.alphas_cumprod[-1]) == 0
    torch.testing.assert_close(noising.noised(clean, noise, steps)[-1], noise[-1])
    torch.testing.assert_close(noising.target(clean, noise, steps)[-1], -clean[-1])
    assert float(noising.weights(steps)[-1]) == 1


def test_noise_and_velocity_are_those_of_diffusers() -> None:
    scheduler = build_scheduler(prediction_type="v_prediction", zero_terminal_snr=False)
    noising = Noising.from_scheduler(scheduler, zero_terminal_snr=False)
    oracle = DDPMScheduler.from_config(scheduler.config)
    clean, noise, steps = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3), torch.tensor([0, 10, 500, 999])
    torch.testing.assert_close(noising.noised(clean, noise, steps), oracle.add_noise(clean, noise, steps))
    torch.testing.assert_close(noising.target(clean, noise, steps), oracle.get_velocity(clean, noise, steps))


# --- captions and tokens -----------------------------------------------------------------------------------


def test_frequent_words_are_single_tokens_and_any_text_survives(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=600)
    save_tokenizer(tokenizer, tmp_path)
    assert {"vocab.json", "merges.txt"} <= {path.name for path in tmp_path.iterdir()}
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    assert (loaded.model_max_length, loaded.pad_token) == (77, "<|endoftext|>")
    assert loaded.tokenize("Polyp left") == ["polyp</w>", "left</w>"]
    for text in ("never seen words", "größe 日本 🙂", "polyp"):
        ids = loaded(text).input_ids
        assert loaded.decode(ids, skip_special_tokens=True) == text
        assert ids == tokenizer(text).input_ids
    padded = loaded("polyp", padding="max_length").input_ids
    assert len(padded) == 77
    assert padded[-1] == loaded.eos_token_id


def test_captions_are_drawn_from_the_pictures_own_and_dropped_at_the_rate() -> None:
    captions = Captions.of([["a polyp", "red polyp"], ["two clips"]])
    pictures = [0, 1] * 2000
    rows = captions.draw(pictures, mirror=[False] * 4000, dropout=0.1, generator=seeded(0, "t", 0))
    texts = [captions.texts[row] for row in rows]
    assert set(texts[0::2]) == {"a polyp", "red polyp", ""}
    assert set(texts[1::2]) == {"two clips", ""}
    assert texts.count("") / 4000 == pytest.approx(0.1, abs=0.02)
    assert texts.count("a polyp") == pytest.approx(texts.count("red polyp"), rel=0.15)
    kept = captions.draw([0] * 50, mirror=[False] * 50, dropout=0.0, generator=seeded(0, "t", 1))
    assert "" not in {captions.texts[row] for row in kept}


def test_a_mirrored_picture_gets_the_mirrored_caption() -> None:
    assert swap_sides("Left, upper-left; right is bright") == "Right, upper-right; left is bright"
    captions = Captions.of([["polyp on the left"]])
    rows = captions.draw([0], mirror=[True], dropout=0.0, generator=seeded(0, "t", 0))
    assert captions.texts[rows[0]] == "polyp on the right"


def test_captions_that_are_too_long_are_refused_or_counted(spec: SdTrainingSpec) -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=600)
    texts = ["polyp " * 75, "polyp " * 76]
    parts = Parts(tokenizer, build_text_encoder(spec, tokenizer), None, None, None)  # type: ignore[arg-type]
    assert check_lengths(parts.tokenizer, texts, long_captions="cut") == 1
    with pytest.raises(TrainingError, match=r"1 captions have more than 77 tokens.*cut"):
        check_lengths(parts.tokenizer, texts, long_captions="error")


# --- pictures and recipes ----------------------------------------------------------------------------------


def test_a_picture_is_cut_to_its_center_square(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert read_square(tmp_path / "wide.png", 16).min() == 255
    batch = Pictures((tmp_path / "wide.png",), 8).batch([0])
    assert batch.shape == (1, 3, 8, 8)
    assert float(batch.max()) == 1.0


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_the_recipes_that_ship_can_be_read(name: str) -> None:
    assert load_recipe(name, overrides=("training.steps=3",)).training.steps == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.stepz=3", "training.stepz"),
        ("training.steps=-1", "-1"),
        ("unet.channels=[64,96,129]", "norm_groups"),
        ("size=60", "multiple of 16"),
        ("vae.norm_groups=16", "tint"),
        ("nonsense", "KEY=VALUE"),
    ],
)
def test_a_wrong_recipe_is_refused_by_key(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("tiny", overrides=(override,))


def test_an_unknown_recipe_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="tiny-finetune"):
        load_recipe("huge")
    (tmp_path / "r.yaml").write_text(json.dumps({"training": {"prediction_type": "epsilon",
                                                              "zero_terminal_snr": True}}))  # fmt: skip
    with pytest.raises(RecipeError, match="v_prediction"):
        load_recipe(tmp_path / "r.yaml")
