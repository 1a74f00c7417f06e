"""Adapters that are refused, each by a message that names the file and the remedy."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from generators import GeneratorError, load
from tests.generators.micro import build_micro_pipeline


def _rewrite_header(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "pytorch_lora_weights.safetensors"
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["lora_adapter_metadata"])
    save_file(load_file(path), path, metadata={"lora_adapter_metadata": json.dumps(change(header))})


def _write_header(folder: Path, **changes: Any) -> None:
    _rewrite_header(folder, lambda header: {**header, **changes})


def _change(folder: Path, change: Callable[[dict[str, torch.Tensor]], object], name: str = "") -> None:
    path = folder / (name or "pytorch_lora_weights.safetensors")
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata=header)


def _only(folder: Path, *names: str) -> None:
    for path in folder.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _first(tensors: dict[str, torch.Tensor], part: str) -> str:
    return next(key for key in sorted(tensors) if part in key)


def _pickle_only(folder: Path) -> None:
    _only(folder)
    torch.save({}, folder / "pytorch_lora_weights.bin")


def _peft_pickle(folder: Path) -> None:
    _only(folder, "unet")
    (folder / "unet" / "adapter_model.safetensors").rename(folder / "unet" / "adapter_model.bin")


def _peft_config(folder: Path, **changes: Any) -> None:
    _only(folder, "unet")
    path = folder / "unet" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _fake(folder: Path) -> None:
    torch.save({}, folder / "pytorch_lora_weights.safetensors")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle": (_pickle_only, r"pytorch_lora_weights\.bin is a pickle.*safetensors"),
    "peft-pickle": (_peft_pickle, r"adapter_model\.safetensors is missing.*adapter_model\.bin.*never read"),
    "renamed-pickle": (_fake, r"pytorch_lora_weights\.safetensors: cannot be read as safetensors"),
    "empty": (lambda f: _change(f, dict.clear), "holds no tensors"),
    "several": (
        lambda f: (_only(f, "kohya.safetensors"), shutil.copy(f / "kohya.safetensors", f / "x.safetensors")),
        r"several files \(kohya\.safetensors, x\.safetensors\)",
    ),
    "full-model": (
        lambda f: _change(f, lambda t: t.update({"unet.conv_in.weight": torch.zeros(2)})),
        r"1 of \d+ tensors belong to no known layout, such as 'unet.conv_in.weight'",
    ),
    "loha": (
        lambda f: _change(f, lambda t: t.update({"lora_unet_x.hada_w1_a": torch.zeros(2)})),
        "no known layout.*LoHa",
    ),
    "other-keys": (
        lambda f: _change(
            f, lambda t: t.update({"unet.down_blocks.9.to_q.lora_A.weight": torch.zeros(2, 2)})
        ),
        r"no place in this model, such as 'unet\.down_blocks\.9.*another architecture.*its own base",
    ),
    "no-up": (
        lambda f: _change(f, lambda t: t.pop(_first(t, "lora_B"))),
        r"has no up matrix; fetch or save",
    ),
    "nan": (
        lambda f: _change(f, lambda t: t[_first(t, "lora_B")].fill_(math.nan)),
        "not finite; its training failed",
    ),
    "infinite-at-scale": (
        lambda f: _change(f, lambda t: t[_first(t, "lora_B")].fill_(3e38)),
        "values that are not finite; take a smaller scale",
    ),
    "no-settings": (
        lambda f: _rewrite_header(f, lambda h: {k: v for k, v in h.items() if k.startswith("unet.")}),
        "no settings for the text_encoder, so its alpha is lost",
    ),
    "rank": (lambda f: _write_header(f, **{"unet.r": 8}), "is of rank 4, its configuration says 8"),
    "dora-lost": (lambda f: _write_header(f, **{"unet.use_dora": True}), "use_dora is True, but .* has no"),
    "regex": (
        lambda f: _write_header(f, **{"unet.alpha_pattern": {"(a+)+": 3}}),
        r"pattern '\(a\+\)\+' is no module's name",
    ),
    "bad-alpha": (lambda f: _write_header(f, **{"unet.lora_alpha": "much"}), "unet: lora_alpha"),
    "method": (lambda f: _peft_config(f, peft_type="LOHA"), "peft_type is 'LOHA'; only LORA"),
    "pissa": (lambda f: _peft_config(f, init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
    "bias": (lambda f: _peft_config(f, bias="all"), "bias is 'all'"),
    "unknown-setting": (lambda f: _peft_config(f, use_bdlora={"nblocks": 2}), "use_bdlora is"),
    "config-json": (
        lambda f: (_only(f, "unet"), (f / "unet" / "adapter_config.json").write_text("{")),
        r"adapter_config\.json is not valid JSON",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_unfit_adapters_are_named_with_a_remedy(
    micro_folder: Path, loras: dict[str, Path], tmp_path: Path, name: str
) -> None:
    copy = shutil.copytree(loras["a"], tmp_path / "lora")
    damage, said = DAMAGES[name]
    damage(copy)
    with pytest.raises(GeneratorError, match=said):
        load(f"{micro_folder}+lora:{copy}", device="cpu")


@pytest.mark.parametrize("name", ["weights.bin", "weights.pt", "weights.ckpt"])
def test_pickles_are_never_opened(micro_folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(GeneratorError, match=rf"{name}: pickles can run code and are never read"):
        load(f"{micro_folder}+lora:{tmp_path / name}", device="cpu")


@pytest.mark.parametrize("layout", ["pytorch_lora_weights.safetensors", "kohya.safetensors", "unet"])
def test_an_adapter_of_a_wider_model_is_refused(
    loras: dict[str, Path], tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tests.generators.micro as micro

    wider = micro.UNet2DConditionModel
    monkeypatch.setattr(
        micro, "UNet2DConditionModel", lambda **settings: wider(**{**settings, "block_out_channels": (8, 32)})
    )
    base = build_micro_pipeline(tmp_path / "sd")
    with pytest.raises(GeneratorError, match=r"the model's weight is \(.*made for another architecture"):
        load(f"{base}+lora:{loras['a'] / layout}", device="cpu")
