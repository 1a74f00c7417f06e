from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from generators import GeneratorError, load
from generators.loading import resolve
from generators.single_file.configs import NAMES, write_config
from generators.training.parts import load_parts
from tests.generators.micro import build_micro_pipeline, build_micro_xl_pipeline
from tests.generators.single_file.original import write_single_file


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTOPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_micro_pipeline(tmp_path_factory.mktemp("micro") / "sd")


@pytest.fixture(scope="module")
def file(model: Path) -> Path:
    return write_single_file(model, model.parent / "sd.safetensors")


def picture(uri: str | Path) -> np.ndarray:
    generator = load(uri, device="cpu")
    request = generator.request("a polyp", 3, steps=2, guidance=2.0)
    return np.asarray(next(iter(generator.generate([request]))))


@pytest.mark.parametrize(
    ("build", "sd2"),
    [(build_micro_pipeline, False), (build_micro_pipeline, True), (build_micro_xl_pipeline, False)],
)
def test_single_file_makes_the_images_of_the_folder_it_came_from(build, sd2: bool, tmp_path: Path) -> None:
    folder = build(tmp_path / "model")
    path = write_single_file(folder, tmp_path / "model.safetensors", sd2=sd2)
    assert np.array_equal(picture(f"{path}?config={folder}"), picture(folder))


def test_training_starts_from_a_single_file(model: Path, file: Path) -> None:
    ours, theirs = load_parts(resolve(f"{file}?config={model}")), load_parts(model)
    for name, network in theirs.networks.items():
        mine = ours.networks[name].state_dict()
        assert all(torch.equal(mine[key], tensor) for key, tensor in network.state_dict().items())


def test_conversion_is_kept_and_follows_the_file(model: Path, file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file.read_bytes())
    folder = resolve(f"{copy}?config={model}")
    stamp = (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns
    assert resolve(f"{copy}?config={model}") == folder
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns == stamp
    tensors = load_file(file)
    tensors["model.diffusion_model.out.2.bias"] += 1
    save_file(tensors, copy)
    assert resolve(f"{copy}?config={model}") != folder


@pytest.mark.parametrize(
    ("drop", "add", "config", "said"),
    [
        (("first_stage_model.",), {}, True, "lacks"),
        (("model.diffusion_model.out.2.",), {}, True, "lacks weights"),
        (("",), {"lora_unet_down.lora_up.weight": (2, 2)}, False, r"\+lora:"),
        ((), {"v_pred": ()}, False, "predicts v"),
        (("",), {"double_blocks.0.weight": (2, 2)}, False, "no whole checkpoint"),
        (
            ("model.diffusion_model.input_blocks.0.0.w",),
            {"model.diffusion_model.input_blocks.0.0.weight": (8, 9, 3, 3)},
            False,
            "inpainting",
        ),
        (
            ("cond_stage_model.",),
            {"cond_stage_model.model.ln_final.weight": (2,)},
            False,
            r"\?config=sd21-base",
        ),
        (
            ("cond_stage_model.",),
            {"conditioner.embedders.1.model.ln_final.weight": (2,)},
            True,
            "StableDiffusionXL",
        ),
    ],
)
def test_what_is_amiss_is_one_message(
    drop: tuple[str, ...], add: dict, config: bool, said: str, model: Path, file: Path, tmp_path: Path
) -> None:
    kept = {k: v for k, v in load_file(file).items() if not k.startswith(drop)}
    path = tmp_path / "bad.safetensors"
    save_file(kept | {name: torch.zeros(shape) for name, shape in add.items()}, path)
    with pytest.raises(GeneratorError, match=said) as caught:
        resolve(f"{path}?config={model}" if config else path)
    assert str(path) in str(caught.value)


def test_wrong_config_no_file_and_pickles_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match=r"sd15.*sdxl"):
        resolve(f"{file}?config=sd16")
    with pytest.raises(GeneratorError, match="no such file"):
        resolve(tmp_path / "none.safetensors")
    pickle = tmp_path / "model.ckpt"
    pickle.write_bytes(b"x")
    with pytest.raises(GeneratorError, match="pickle"):
        resolve(pickle)
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:100])
    with pytest.raises(GeneratorError, match="whole safetensors"):
        resolve(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_architectures_have_the_published_numbers_of_weights(name: str, tmp_path: Path) -> None:
    """Against the parameter counts of the published checkpoints."""
    import diffusers
    import transformers

    write_config(name, tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    published = {
        "sd15": (859_520_964, 83_653_863, 123_060_480),
        "sd21": (865_910_724, 83_653_863, 340_387_840),
        "sd21-base": (865_910_724, 83_653_863, 340_387_840),
        "sdxl": (2_567_463_684, 83_653_863, 123_060_480, 694_659_840),
    }[name]
    with torch.device("meta"):
        networks = [
            getattr(diffusers, index[part][1]).from_config(
                json.loads((tmp_path / part / "config.json").read_text())
            )
            for part in ("unet", "vae")
        ]
        networks += [
            getattr(transformers, index[part][1])(
                transformers.CLIPTextConfig.from_pretrained(tmp_path / part)
            )
            for part in ("text_encoder", "text_encoder_2")
            if part in index
        ]
    assert tuple(sum(p.numel() for p in one.parameters()) for one in networks) == published


def test_tokenizer_that_is_written_is_clips(tmp_path: Path) -> None:
    import open_clip
    from transformers import CLIPTokenizer

    write_config("sdxl", tmp_path)
    texts = ["A colonoscopy image of a 5 mm polyp, sessile; pink?", "naïve café 3x3"]
    theirs = open_clip.get_tokenizer("ViT-B-32")(texts)
    for part, padding in (("tokenizer", 49407), ("tokenizer_2", 0)):
        ours = CLIPTokenizer.from_pretrained(tmp_path / part)
        found = ours(texts, padding="max_length").input_ids
        for own, wanted in zip(found, theirs.tolist(), strict=True):
            length = wanted.index(49407) + 1
            assert own[:length] == wanted[:length]
            assert set(own[length:]) == {padding}
