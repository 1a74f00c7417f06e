"""DiffusionGenerator against diffusers' own pipeline, and its loading errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from generators import GeneratorError, load
from generators.loading import resolve
from generators.stable_diffusion.diffusion import DiffusionGenerator
from generators.stable_diffusion.schedulers import NAMES, make_scheduler
from tests.generators.micro import build_micro_pipeline

PROMPTS = ["a polyp", "", "a biopsy forceps, close"]


@pytest.fixture(scope="module")
def oracle(micro_folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(micro_folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def copy(micro_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(micro_folder, tmp_path / "sd")
    return tmp_path / "sd"


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", NAMES)
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_images_equal_those_of_diffusers(
    micro: DiffusionGenerator, oracle: StableDiffusionPipeline, scheduler: str, guidance: float
) -> None:
    native = oracle.scheduler
    oracle.scheduler = make_scheduler(scheduler, native)
    try:
        expected = oracle(
            PROMPTS,
            negative_prompt=["blurry"] * 3,
            num_inference_steps=5,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in range(3)],
            output_type="np",
        ).images
    finally:
        oracle.scheduler = native
    requests = [
        micro.request(prompt, seed, negative_prompt="blurry", steps=5, guidance=guidance, scheduler=scheduler)
        for seed, prompt in enumerate(PROMPTS)
    ]
    images = np.stack([np.asarray(image) for image in micro.generate(requests)])
    # Batches of three and of four round differently, which may tip a pixel over to the next of 256 levels.
    difference = np.abs(images.astype(int) - np.round(255 * expected).astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_unguided_images_take_one_row_each_and_guided_two(
    micro: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    unet = micro._pipeline.unet
    forward = unet.forward

    def counting(sample, *args, **kwargs):  # type: ignore[no-untyped-def]
        rows.append(len(sample))
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(unet, "forward", counting)
    for guidance, expected in ((1.0, [4] * 6), (3.0, [8] * 6)):
        rows.clear()
        list(micro.generate([micro.request("a", s, steps=3, guidance=guidance) for s in range(6)]))
        assert rows == expected  # six images are two batches of four, the second one padded


def test_prompts_are_encoded_once(micro_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = DiffusionGenerator(micro_folder, device="cpu", batch_size=2)
    encoded: list[str] = []
    encode = generator._pipeline.encode_prompt
    monkeypatch.setattr(
        generator._pipeline,
        "encode_prompt",
        lambda prompt, *args: encoded.append(prompt) or encode(prompt, *args),
    )
    requests = [generator.request(prompt, seed, steps=1) for seed in range(3) for prompt in ("a", "b")]
    list(generator.generate(requests))
    assert sorted(encoded) == ["", "a", "b"]


def test_images_come_batch_by_batch(micro: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    run = micro._run
    monkeypatch.setattr(micro, "_run", lambda requests, _: batches.append(len(requests)) or run(requests))
    images = micro.generate([micro.request("a", seed, steps=1) for seed in range(6)])
    assert batches == []
    next(images)
    assert batches == [4]
    assert len(list(images)) == 5
    assert batches == [4, 2]


def test_defaults_come_from_the_model_folder(micro: DiffusionGenerator, copy: Path) -> None:
    plain = micro.request("a", 1)
    assert (plain.steps, plain.guidance, plain.scheduler) == (30, 7.5, "dpmpp_2m")
    assert (plain.width, plain.height) == (32, 32)
    (copy / "promptopt.json").write_text('{"steps": 12, "guidance": 2, "scheduler": "ddim", "width": 64}')
    tuned = load(copy, device="cpu").request("a", 1)
    assert (tuned.steps, tuned.guidance, tuned.scheduler) == (12, 2.0, "ddim")
    assert (tuned.width, tuned.height) == (64, 32)
    assert tuned.generator == plain.generator
    assert load(copy, device="cpu").request("a", 1, guidance=0.0).guidance == 0.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"stepz": 3}', "stepz"),
        ('{"steps": 0}', "steps"),
        ('{"guidance": "7"}', "guidance"),
        ('{"scheduler": "nosuch"}', "nosuch"),
        ('{"width": 33}', "33"),
        ("{", "JSON"),
    ],
)
def test_wrong_defaults_are_refused_on_loading(copy: Path, text: str, said: str) -> None:
    (copy / "promptopt.json").write_text(text)
    with pytest.raises(GeneratorError, match=rf"promptopt\.json.*{said}"):
        load(copy, device="cpu")


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", NAMES)
def test_schedulers_keep_the_prediction_type(micro_folder: Path, name: str, prediction_type: str) -> None:
    from diffusers import DDIMScheduler

    native = DDIMScheduler(prediction_type=prediction_type, beta_schedule="scaled_linear", clip_sample=False)
    made = make_scheduler(name, native)
    assert made.config.prediction_type == prediction_type
    assert made.config.beta_schedule == "scaled_linear"


def test_zero_terminal_snr_is_kept_or_refused() -> None:
    from diffusers import DDIMScheduler

    native = DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False)
    kept = [name for name in NAMES if name not in ("deis", "heun", "pndm")]
    for name in kept:
        assert make_scheduler(name, native).config.rescale_betas_zero_snr
    for name in ("deis", "heun", "pndm"):
        with pytest.raises(GeneratorError, match=r"zero-terminal-SNR.*ddim"):
            make_scheduler(name, native)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("deis", "heun", "pndm")])
def test_zero_terminal_snr_models_make_finite_images(copy: Path, name: str) -> None:
    path = copy / "scheduler" / "scheduler_config.json"
    config = {
        "_class_name": "DDIMScheduler",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "clip_sample": False,
        "steps_offset": 1,
    }
    path.write_text(json.dumps(config))
    index = json.loads((copy / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "DDIMScheduler"]
    (copy / "model_index.json").write_text(json.dumps(index))
    generator = load(copy, device="cpu", batch_size=2)
    (image,) = generator.generate([generator.request("a", 1, steps=3, scheduler=name)])
    assert np.asarray(image).std() > 1


def test_values_that_are_not_finite_are_an_error_not_a_black_image(copy: Path) -> None:
    generator = load(copy, device="cpu", batch_size=2)
    with torch.no_grad():
        generator._pipeline.vae.decoder.conv_out.bias.fill_(float("nan"))  # type: ignore[attr-defined]
    with pytest.raises(GeneratorError, match=r"seed 11.*not finite.*float32"):
        list(generator.generate([generator.request("a", 11, steps=1)]))


def test_more_steps_than_trained_are_refused(micro: DiffusionGenerator) -> None:
    with pytest.raises(GeneratorError, match="1000"):
        micro.request("a", 1, steps=1001)


def test_batch_size_and_dtype_are_part_of_the_request(micro_folder: Path) -> None:
    four, two = (load(micro_folder, device="cpu", batch_size=size) for size in (4, 2))
    half = load(micro_folder, device="cpu", batch_size=4, dtype="bfloat16")
    keys = {generator.request("a", 1).key for generator in (four, two, half)}
    assert len(keys) == 3
    with pytest.raises(GeneratorError, match=r"versions.*batch=4.*batch=2"):
        two.generate([four.request("a", 1)])
    (image,) = half.generate([half.request("a", 1, steps=2)])
    assert np.asarray(image).std() > 1


def _edit_index(folder: Path, **values: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _pickle_weights(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(
        folder / "vae" / "diffusion_pytorch_model.bin"
    )


def _escaping_shard(folder: Path) -> None:
    name = "diffusion_pytorch_model.safetensors"
    (folder / "unet" / name).rename(folder / "outside.safetensors")
    index = {"weight_map": {"conv_in.bias": "../outside.safetensors"}}
    (folder / "unet" / f"{name}.index.json").write_text(json.dumps(index))


def _truncated(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (shutil.rmtree, r"no such folder.*hf:owner/name"),
    "index": (lambda f: (f / "model_index.json").unlink(), r"model_index\.json is missing.*save_pretrained"),
    "index-json": (
        lambda f: (f / "model_index.json").write_text("{"),
        r"model_index\.json is not valid JSON",
    ),
    "weights": (
        lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").unlink(),
        r"unet/diffusion_pytorch_model\.safetensors is missing.*download",
    ),
    "component": (lambda f: shutil.rmtree(f / "text_encoder"), r"text_encoder/config\.json is missing"),
    "tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), r"tokenizer/tokenizer\.json is missing"),
    "scheduler": (lambda f: shutil.rmtree(f / "scheduler"), r"scheduler_config\.json is missing"),
    "pickle": (_pickle_weights, r"has diffusion_pytorch_model\.bin; only plain safetensors"),
    "truncated": (_truncated, r"unet: cannot be loaded as a UNet2DConditionModel"),
    "escape": (_escaping_shard, r"outside\.safetensors' is not a safetensors file of the same folder"),
    "other-class": (lambda f: _edit_index(f, _class_name="FluxPipeline"), r"_class_name is 'FluxPipeline'"),
    "own-code": (lambda f: _edit_index(f, unet=["evil", "Net"]), r"code from a model folder is never run"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_unfit_folders_are_named_with_a_remedy(copy: Path, name: str) -> None:
    damage, said = DAMAGES[name]
    damage(copy)
    with pytest.raises(GeneratorError, match=said):
        load(copy, device="cpu")


def test_safety_checker_is_never_loaded(copy: Path) -> None:
    _edit_index(
        copy,
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )
    generator = load(copy, device="cpu", batch_size=2)
    assert generator._pipeline.safety_checker is None  # type: ignore[attr-defined]
    assert len(list(generator.generate([generator.request("a", 1, steps=1)]))) == 1


def test_fp16_weights_give_float32_images_on_the_cpu(micro_folder: Path, tmp_path: Path) -> None:
    StableDiffusionPipeline.from_pretrained(micro_folder).to(torch.float16).save_pretrained(tmp_path / "half")
    generator = load(tmp_path / "half", device="cpu", batch_size=2)
    request = generator.request("a", 1, steps=2)
    assert request.dtype == "float32"
    (image,) = generator.generate([request])
    assert np.asarray(image).std() > 1


@pytest.mark.parametrize(
    ("uri", "settings", "said"),
    [
        ("", {}, "empty"),
        ("hf:nothing", {}, "hf:owner/name"),
        ("hf:a/b@v1", {"revision": "v2"}, "two revisions.*give one"),
        ("embedded", {"revision": "v2"}, "only applies to hf"),
    ],
)
def test_wrong_addresses_are_refused(uri: str, settings: dict[str, str], said: str) -> None:
    with pytest.raises(GeneratorError, match=said):
        load(uri, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "quantum"}, "quantum"),
        ({"device": "meta"}, "meta"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"dtype": "int4"}, "int4"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_wrong_devices_and_types_are_refused(micro_folder: Path, settings: dict, said: str) -> None:
    with pytest.raises(GeneratorError, match=said):
        load(micro_folder, **settings)


def test_embedded_model_that_is_not_built_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generators.loading.EMBEDDED", tmp_path / "sd")
    with pytest.raises(GeneratorError, match=r"embedded: .*not built yet.*build_embedded"):
        load("embedded")


def test_hub_model_is_read_from_the_cache_offline(
    micro_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A cache as huggingface_hub lays it out; diffusers must find it with no network at all.
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "hub" / "models--owner--name"
    shutil.copytree(micro_folder, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    monkeypatch.setattr("diffusers.pipelines.pipeline_utils.model_info", _offline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    generator = load("hf:owner/name", device="cpu")
    assert generator.uri == "hf:owner/name"
    assert generator.fingerprint == load(micro_folder, device="cpu").fingerprint
    with pytest.raises(GeneratorError, match=r"hf:owner/other: is not in the cache.*local diffusers"):
        load("hf:owner/other", device="cpu")


def _offline(*_: object, **__: object) -> None:
    from huggingface_hub.errors import OfflineModeIsEnabled

    raise OfflineModeIsEnabled("offline")


def test_micro_pipelines_of_other_seeds_differ(micro_folder: Path, tmp_path: Path) -> None:
    other = load(build_micro_pipeline(tmp_path / "sd", seed=5), device="cpu")
    assert other.fingerprint != load(micro_folder, device="cpu").fingerprint


def test_resolve_finds_the_folder_without_loading(
    micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve(micro_folder) == micro_folder
    monkeypatch.setattr("generators.loading.EMBEDDED", micro_folder)
    assert resolve("embedded") == micro_folder
    assert load("embedded", device="cpu").uri == "embedded"


def test_pictures_pass_through_the_models_own_autoencoder(
    micro: DiffusionGenerator, oracle: StableDiffusionPipeline
) -> None:
    picture = next(iter(micro.generate([micro.request("a polyp", 3, steps=2)])))
    small, large = micro.reconstruct([picture, picture.resize((99, 80))])
    assert small.size == large.size == picture.size
    pixels = oracle.image_processor.preprocess(picture)
    with torch.no_grad():
        latents = oracle.vae.encode(pixels.to(oracle.vae.dtype)).latent_dist.mean
        decoded = oracle.vae.decode(latents).sample
    [expected] = oracle.image_processor.postprocess(decoded, output_type="np")
    difference = np.abs(np.asarray(small).astype(int) - np.round(255 * expected).astype(int))
    assert difference.max() <= 1
