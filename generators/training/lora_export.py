"""A trained LoRA written in the three layouts that the ecosystem reads, whole or not at all.

pytorch_lora_weights.safetensors    diffusers: load_lora_weights; PEFT's settings in the header
unet/, text_encoder/                PEFT: PeftModel.from_pretrained, one folder a component, in transformers 4
                                    and 5 alike
kohya.safetensors                   sd-scripts, ComfyUI, AUTOMATIC1111
README.md, promptopt.json           the model card; sampling defaults, where there are any
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from generators.adapters.kohya import kohya_name, targets
from generators.adapters.lora import DIFFUSERS_FILE, PEFT_CONFIG, PEFT_WEIGHTS
from generators.adapters.lora_layouts import METADATA_KEY
from generators.folder import DEFAULTS_FILE, ModelDefaults
from generators.stable_diffusion.networks import TOWER
from promptopt.base.files import new_folder
from promptopt.base.training.errors import TrainingError

KOHYA_FILE = "kohya.safetensors"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_ADAPTER = "default"
_KEPT = (
    "r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
    "rank_pattern", "alpha_pattern", "use_rslora", "use_dora",
)  # fmt: skip
_UNKNOWN_TO_LAYOUTS = ("modules_to_save", "lora_bias", "trainable_token_indices", "target_parameters")
_NO_KOHYA = """
## Why there is no kohya file
This adapter is DoRA, and sd-scripts has none. LyCORIS keeps DoRA's lengths as `dora_scale`, but diffusers
leaves them out of such a file with no more than a warning, and then draws other pictures. Use
`pytorch_lora_weights.safetensors` or the PEFT folders.
"""


def save_lora(
    folder: Path,
    *,
    unet: Any,
    text_encoder: Any = None,
    card: str,
    defaults: ModelDefaults | None = None,
    dtype: str = "float32",
) -> Path:
    """Write the adapter "default" of a UNet, and of a text encoder, in every layout; returns the folder.

    What stood in the folder before is replaced at the end, by renaming; after any error it is still there.

    Args:
        unet: a diffusers UNet that got its adapter by `add_adapter(LoraConfig(...))`.
        text_encoder: a `CLIPTextModel` with an adapter, or None if it was not trained.
        card: README.md's text; a DoRA's card is told why kohya's layout is missing.
        defaults: the sampling defaults, written as promptopt.json.
        dtype: of the saved matrices: "float32", "float16" or "bfloat16". Alphas stay float32.

    Raises:
        TrainingError: an adapter is missing, not finite in `dtype`, or of a kind that a layout cannot hold.
        OSError: the folder cannot be written.
    """
    if dtype not in _DTYPES:
        raise TrainingError(f"dtype {dtype!r} of the adapter is unknown; take {', '.join(_DTYPES)}")
    parts = {"unet": unet} | ({} if text_encoder is None else {"text_encoder": text_encoder})
    settings = {name: _settings(part, name) for name, part in parts.items()}
    tensors = {name: _tensors(part, name, _DTYPES[dtype]) for name, part in parts.items()}
    dora = any(own["use_dora"] for own in settings.values())
    with new_folder(Path(folder)) as aside:
        (aside / DIFFUSERS_FILE).write_bytes(_diffusers(tensors, settings))
        for name, own in tensors.items():
            (aside / name).mkdir()
            _write_peft_config(aside / name, settings[name])
            peft = {f"base_model.model.{key}": tensor for key, tensor in _spelled(own, name).items()}
            (aside / name / PEFT_WEIGHTS).write_bytes(save(peft, metadata={"format": "pt"}))
        if not dora:
            (aside / KOHYA_FILE).write_bytes(_kohya(tensors, settings, parts))
        (aside / "README.md").write_bytes((card.rstrip("\n") + "\n" + (_NO_KOHYA if dora else "")).encode())
        if defaults is not None:
            text = json.dumps(defaults.model_dump(exclude_none=True), indent=1) + "\n"
            (aside / DEFAULTS_FILE).write_bytes(text.encode())
    return Path(folder)


def _settings(part: Any, name: str) -> dict[str, Any]:
    """What of the adapter's LoraConfig decides the images; the rest concerns training alone."""
    config = getattr(part, "peft_config", {}).get(_ADAPTER)
    if config is None:
        raise TrainingError(
            f"the {name} has no adapter {_ADAPTER!r}; give it one by add_adapter(LoraConfig(...))"
        )
    kind = getattr(config.peft_type, "value", config.peft_type)
    if kind != "LORA":
        raise TrainingError(f"the {name}'s adapter is {kind}; only LORA has a place in every layout")
    odd = [key for key in _UNKNOWN_TO_LAYOUTS if getattr(config, key, None)]
    if config.bias != "none" or odd:
        raise TrainingError(
            f"the {name}'s adapter trains more than its matrices ({', '.join(odd) or 'bias'}); "
            "no layout but PEFT's could hold that: switch it off"
        )
    start = config.init_lora_weights
    if isinstance(start, str) and start not in ("gaussian", "orthogonal", "eva"):
        raise TrainingError(
            f"the {name}'s adapter was started with {start!r}, which changes the base model; take gaussian"
        )
    return {
        key: sorted(value) if isinstance(value, set) else value
        for key in _KEPT
        if (value := getattr(config, key)) is not None
    }


def _tensors(part: Any, name: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    # Without False PEFT looks on the hub whether the vocabulary has grown.
    state = get_peft_model_state_dict(part, adapter_name=_ADAPTER, save_embedding_layers=False)
    tensors = {
        # clone: safetensors refuses tensors that share memory, and wants plain contiguous ones
        key: tensor.detach().to("cpu", dtype).clone(memory_format=torch.contiguous_format)
        for key, tensor in state.items()
    }
    if not tensors:
        raise TrainingError(f"the {name}'s adapter has no matrices; its target_modules match nothing")
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise TrainingError(
                f"the {name}'s {key} is not finite in {dtype}; save float32, or train with a smaller rate"
            )
    return tensors


def _spelled(own: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """A component's matrices; a text encoder's also under its other name, since PEFT reads one of the two.

    Transformers 4 has `text_model.` before a module's path and 5 has not; PEFT leaves out without a word what
    is of the other version, and matrices at random stand in its place.
    """
    if name == "unet":
        return dict(own)
    bare = {key.removeprefix(TOWER): tensor for key, tensor in own.items()}
    return bare | {TOWER + key: tensor.clone() for key, tensor in bare.items()}


def _diffusers(tensors: Mapping[str, Mapping[str, torch.Tensor]], settings: Mapping[str, Any]) -> bytes:
    """PEFT's key names throughout: diffusers misreads a file that mixes them with its own older ones."""
    packed = {}
    for name, own in tensors.items():
        for key, tensor in own.items():
            # The prefix that transformers 5 dropped; diffusers takes it off again where there is none.
            tower = "" if name == "unet" or key.startswith(TOWER) else TOWER
            # transformers 5 drops DoRA's lengths without the suffix that PEFT leaves out.
            end = ".weight" if key.endswith(".lora_magnitude_vector") else ""
            packed[f"{name}.{tower}{key}{end}"] = tensor
    header = {f"{name}.{key}": value for name, own in settings.items() for key, value in own.items()}
    text = json.dumps(header, indent=2, sort_keys=True)
    # One entry alone: safetensors writes several in any order, and equal adapters should be equal files.
    return bytes(save(packed, metadata={METADATA_KEY: text}))


def _write_peft_config(folder: Path, settings: Mapping[str, Any]) -> None:
    from peft import LoraConfig

    LoraConfig(**settings, inference_mode=True).save_pretrained(str(folder))
    path = folder / PEFT_CONFIG
    content = json.loads(path.read_text(encoding="utf-8"))
    for key in ("target_modules", "exclude_modules"):  # sets, which PEFT writes in any order
        if isinstance(content[key], list):
            content[key].sort()
    path.write_bytes((json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def _kohya(
    tensors: Mapping[str, Mapping[str, torch.Tensor]], settings: Mapping[str, Any], parts: Mapping[str, Any]
) -> bytes:
    """kohya's factor is alpha / rank, so that rsLoRA's alpha is stored times the square root of the rank.

    One alpha a component: where alphas differ, diffusers takes one for all. The rest goes into the matrix.
    """
    packed: dict[str, torch.Tensor] = {}
    for component, own in tensors.items():
        layers = {path: parts[component].get_submodule(path) for path in (_path(key) for key in own)}
        alphas = {
            path: layer.lora_alpha[_ADAPTER]
            * (math.sqrt(layer.r[_ADAPTER]) if settings[component]["use_rslora"] else 1.0)
            for path, layer in layers.items()
        }
        common = Counter(alphas.values()).most_common(1)[0][0] or 1.0
        for key, tensor in own.items():
            path = _path(key)
            name = kohya_name(path, component=component, unet=parts["unet"])
            if key.endswith(".lora_A.weight"):
                packed[f"{name}.lora_down.weight"] = tensor
                packed[f"{name}.alpha"] = torch.tensor(float(common))
            else:
                packed[f"{name}.lora_up.weight"] = tensor * (alphas[path] / common)
    if "text_encoder" in tensors:
        packed |= _sign(packed, parts["text_encoder"], unet=parts["unet"])
    return bytes(save(packed, metadata={"format": "pt"}))


def _path(key: str) -> str:
    return key.rpartition(".lora_")[0]


def _sign(packed: Mapping[str, torch.Tensor], text_encoder: Any, *, unet: Any) -> dict[str, torch.Tensor]:
    """A layer of zeros for an out_proj, if there is none: by one diffusers knows kohya's text encoders.

    Without one it leaves the attention's layers out with a warning, or gives up.
    """
    if any(name.endswith("self_attn_out_proj.lora_up.weight") for name in packed):
        return {}
    path, module = next((p, m) for p, m in targets(text_encoder) if p.endswith("self_attn.out_proj"))
    name = kohya_name(path, component="text_encoder", unet=unet)
    like = next(key for key in packed if key.startswith("lora_te") and key.endswith("lora_down.weight"))
    rank = len(packed[like])
    outputs, inputs = module.get_parameter("weight").shape
    return {
        f"{name}.lora_down.weight": packed[like].new_zeros(rank, inputs),
        f"{name}.lora_up.weight": packed[like].new_zeros(outputs, rank),
        f"{name}.alpha": packed[like.replace("lora_down.weight", "alpha")].clone(),
    }
