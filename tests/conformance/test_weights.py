"""Every network that is loaded: a tensor taken out of its file, added or reshaped is refused by name.

The libraries fill a gap with random numbers and only warn. What is whole is loaded first in the same way, so
that no refusal is one of the folder itself.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save_file

from evaluation.classifier.judge import load_judge
from evaluation.classifier.network import NetworkLearner
from evaluation.encoders.backbones import build_network
from evaluation.encoders.load import load_encoder
from generators import load as load_generator
from generators.clip_baseline.clip import load_clip
from generators.loading import EMBEDDED
from generators.stable_diffusion.networks import load_network
from generators.training.parts import load_parts
from generators.training.text_tower import read_text_tower
from promptopt.base.errors import PromptoptError
from promptopt.base.weights import require_all
from tests.evaluation.encoders.small import make_micro_dinov2
from tests.generators.loras import adapted_pipeline
from tests.generators.micro import build_micro_pipeline, build_micro_xl_pipeline

CLIP = EMBEDDED.parents[2] / "evaluation" / "embedded" / "clip"
JUDGE = CLIP.with_name("judge")
UNET, VAE = (f"{name}/diffusion_pytorch_model.safetensors" for name in ("unet", "vae"))
TEXT, TEXT_2 = "text_encoder/model.safetensors", "text_encoder_2/model.safetensors"
CLIP_FILE = "open_clip_model.safetensors"


def _vae(folder: Path) -> object:
    from diffusers import AutoencoderKL

    return load_network(folder / "vae", AutoencoderKL)


def _weights(folder: Path) -> Path:
    folder.mkdir()
    save_file(build_network("resnet18", 2).state_dict(), folder / "weights.safetensors")
    return folder


def _lora(folder: Path) -> Path:
    from generators.training.lora_export import save_lora

    base = build_micro_pipeline(folder / "sd")
    trained = adapted_pipeline(base)
    save_lora(folder / "lora", unet=trained.unet, text_encoder=trained.text_encoder, card="# A card")
    (folder / "peft").mkdir()
    for name in ("unet", "text_encoder"):
        (folder / "lora" / name).rename(folder / "peft" / name)
    return folder


# What makes the folder, the files to damage, what loads it.
LOADS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...], Callable[[Path], object]]] = {
    "embedded": (
        lambda empty: shutil.copytree(EMBEDDED, empty),
        (UNET, VAE, TEXT),
        lambda folder: load_generator(folder, device="cpu"),
    ),
    "sdxl": (
        build_micro_xl_pipeline,
        (TEXT, TEXT_2),
        lambda folder: load_generator(folder, device="cpu"),
    ),
    "training": (build_micro_pipeline, (UNET, VAE, TEXT), load_parts),
    "autoencoder": (build_micro_pipeline, (VAE,), _vae),
    "clip": (
        lambda empty: shutil.copytree(CLIP, empty),
        (CLIP_FILE,),
        lambda folder: load_encoder(folder, device="cpu"),
    ),
    "clip-guided": (
        lambda empty: shutil.copytree(CLIP, empty),
        (CLIP_FILE,),
        lambda folder: load_clip(str(folder), device=torch.device("cpu")),
    ),
    "text tower": (lambda empty: shutil.copytree(CLIP, empty), (CLIP_FILE,), read_text_tower),
    "dinov2": (
        make_micro_dinov2,
        ("model.safetensors",),
        lambda folder: load_encoder(folder, device="cpu"),
    ),
    "judge": (
        lambda empty: shutil.copytree(JUDGE, empty),
        ("model.safetensors",),
        lambda folder: load_judge(folder, device="cpu"),
    ),
    "classifier": (
        _weights,
        ("weights.safetensors",),
        lambda folder: NetworkLearner(weights=folder / "weights.safetensors"),
    ),
    "lora": (
        _lora,
        ("lora/pytorch_lora_weights.safetensors",),
        lambda folder: load_generator(f"{folder / 'sd'}+lora:{folder / 'lora'}", device="cpu"),
    ),
    "peft": (
        _lora,
        ("peft/unet/adapter_model.safetensors", "peft/text_encoder/adapter_model.safetensors"),
        lambda folder: load_generator(f"{folder / 'sd'}+lora:{folder / 'peft'}", device="cpu"),
    ),
}
DAMAGES = ("removed", "reshaped", "added")
# A tensor of each that is easy to overlook: not the first of the file, and small.
VICTIMS = {
    UNET: "mid_block.resnets.1.norm2.bias",
    VAE: "decoder.conv_out.bias",
    TEXT: "encoder.layers.1.layer_norm2.bias",
    TEXT_2: "encoder.layers.1.layer_norm2.bias",
    CLIP_FILE: "transformer.resblocks.1.ln_2.bias",
}


@pytest.fixture(scope="module", params=LOADS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder that loads, its files with tensors, and what loads it."""
    build, files, read = LOADS[request.param]
    folder = build(tmp_path_factory.mktemp("whole") / "folder")
    read(folder)
    return request.param, folder, files, read


def _rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    with safe_open(path, framework="pt") as stream:
        header = stream.metadata()
    tensors = load(path.read_bytes())
    change(tensors)
    save_file(tensors, path, metadata=header)


def _victim(name: str, file: str, path: Path) -> str:
    names = sorted(load(path.read_bytes()))
    if name in ("lora", "peft"):
        return names[-1]
    wanted = VICTIMS.get(file, "bias")
    return wanted if wanted in names else next(key for key in reversed(names) if key.endswith(wanted))


def _said(victim: str) -> str:
    """The tensor's name as the message must hold it, whichever prefix and matrix of a pair it names."""
    for prefix in ("base_model.model.", "unet.", "text_encoder.", "text_model."):
        victim = victim.removeprefix(prefix)
    bare = re.sub(r"\.lora_[AB]\.weight$", "", victim)
    return re.escape(bare).replace(r"transformer\.resblocks\.1\.ln_2", r"1\.(ln_2|layer_norm2)")


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_not_wholly_the_network_is_refused(whole: Any, tmp_path: Path, damage: str) -> None:
    name, folder, files, read = whole
    # A published backbone may bring a head along, which is no part of the encoder.
    damages = ("removed",) if name in ("dinov2", "embedded") else DAMAGES
    if damage not in damages:
        return
    for number, file in enumerate(files):
        copy = shutil.copytree(folder, tmp_path / f"{number}")
        victim = _victim(name, file, copy / file)
        changes: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
            # a PEFT folder has a text encoder's matrices under two names
            "removed": lambda tensors, victim=victim: (
                tensors.pop(victim),
                tensors.pop(victim.replace("text_model.", ""), None),
            ),
            "reshaped": lambda tensors, victim=victim: tensors.update({victim: torch.zeros(3, 5)}),
            "added": lambda tensors, victim=victim: tensors.update(
                {re.sub(r"(\d+)\.", "77.", victim, count=1).replace("conv_out", "conv_77"): torch.zeros(3)}
            ),
        }
        _rewrite(copy / file, changes[damage])
        with pytest.raises(PromptoptError) as refused:
            read(copy)
        message = str(refused.value)
        assert str(copy) in message
        if damage != "added":
            assert re.search(_said(victim), message), message
        else:
            assert "77" in message.replace(str(copy), "")


def test_a_whole_layer_taken_out_of_an_adapter_is_missed(tmp_path: Path) -> None:
    """Both matrices at once: what is left is an adapter by itself, but not the one that was trained."""
    folder = _lora(tmp_path / "lora")
    for file, part in (
        ("lora/pytorch_lora_weights.safetensors", "text_encoder.text_model.encoder.layers.1.mlp.fc1."),
        ("peft/unet/adapter_model.safetensors", "base_model.model.mid_block.resnets.1.conv1."),
    ):
        path = folder / file
        _rewrite(path, lambda t, part=part: [t.pop(key) for key in list(t) if key.startswith(part)])
        place = path.parent if file.startswith("lora") else path.parent.parent
        with pytest.raises(PromptoptError, match=r"no matrices for 1 of the layers.*(fc1|resnets\.1\.conv1)"):
            load_generator(f"{folder / 'sd'}+lora:{place}", device="cpu")


def test_the_old_names_of_published_files_are_no_fault(tmp_path: Path) -> None:
    """Stable Diffusion 1.x: numbers of positions beside the text encoder, the autoencoder's older names."""
    folder = shutil.copytree(EMBEDDED, tmp_path / "sd")

    def older(tensors: dict[str, torch.Tensor]) -> None:
        names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for key in [key for key in tensors if ".attentions." in key]:
            renamed = key
            for new, old in names.items():
                renamed = renamed.replace(f".{new}.", f".{old}.")
            tensors[renamed] = tensors.pop(key)

    _rewrite(folder / VAE, older)
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    _rewrite(folder / TEXT, lambda tensors: tensors.update(positions))
    old, new = load_generator(folder, device="cpu"), load_generator("embedded", device="cpu")
    pictures = [next(iter(one.generate([one.request("a polyp", 3, steps=2)]))) for one in (old, new)]
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_the_sentence_names_the_first_and_counts_the_others() -> None:
    with pytest.raises(PromptoptError) as refused:
        require_all("w.safetensors", missing=["d", "a", "c", "b"], unexpected=["x"])
    assert str(refused.value) == (
        "w.safetensors: lacks 4 of the network's tensors (a, b, c and 1 more), holds 1 that the network has "
        "no place for (x); no network with random weights is used. Copy or download the file again, or save "
        "the network again."
    )
    require_all("w.safetensors")
