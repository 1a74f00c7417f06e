"""The three layouts of a LoRA file - diffusers', PEFT's and kohya's - read into one form and checked.

Each layer is matched to a module of the very pipeline it is meant for. A layer with no place, a layer with
half its matrices, or one of another shape is an error: an adapter fits wholly or not at all.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from generators.adapters.kohya import spellings, targets
from generators.errors import GeneratorError
from promptopt.base.settings import explain

METADATA_KEY = "lora_adapter_metadata"
"""Where diffusers keeps the adapter's PEFT configuration in the header of a safetensors file."""

_KOHYA = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")
_PARTS = {
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "alpha": "alpha",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "dora_scale": "dora_scale",
}
_KEY = re.compile(rf"(?P<module>.+?)\.(?P<part>{'|'.join(map(re.escape, _PARTS))})")
# Of PEFT's settings these have no say in what an adapter computes once it is trained; what is neither here
# nor in `_Settings` must be off.
_WITHOUT_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode", "layers_pattern",
    "lora_dropout", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "task_type",
}  # fmt: skip
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")  # the others also change the base model


class _Settings(BaseModel):
    """What of a PEFT configuration the arithmetic needs."""

    model_config = ConfigDict(extra="ignore")

    r: int = 8
    lora_alpha: float = Field(default=8, allow_inf_nan=False)
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    init_lora_weights: bool | str | None = True
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    layers_to_transform: list[int] | int | None = None


@dataclass(frozen=True)
class LoraLayer:
    """What an adapter changes in one module, in float32.

    Attributes:
        down: (rank, inputs) or, for a convolution, (rank, inputs, height, width).
        up: (outputs, rank) or (outputs, rank, 1, 1).
        scaling: alpha / rank, or alpha / sqrt(rank) with rsLoRA.
        magnitude: (outputs,), DoRA's length of each row; None without DoRA.
    """

    down: torch.Tensor
    up: torch.Tensor
    scaling: float
    magnitude: torch.Tensor | None

    def added(self, weight: torch.Tensor, *, original: torch.Tensor, scale: float) -> torch.Tensor:
        """`weight` with this layer at `scale`; `original` is the base model's, which DoRA measures by."""
        down, up = self.down.to(weight.device), self.up.to(weight.device)
        change = scale * self.scaling * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
        if self.magnitude is None:
            return weight + change
        lengths = torch.linalg.vector_norm((original + change).flatten(1), dim=1)
        factor = self.magnitude.to(weight.device) / lengths
        return factor.reshape(-1, *[1] * (weight.ndim - 1)) * (weight + change)


def read_layers(
    files: Sequence[tuple[Path, Path | None]], components: Mapping[str, Any]
) -> dict[tuple[str, str], LoraLayer]:
    """The layers of one adapter by component and module path.

    Args:
        files: safetensors files, each with its PEFT configuration or None.
        components: the networks of the pipeline by name: "unet", "text_encoder", "text_encoder_2".

    Raises:
        GeneratorError: not safetensors, an unknown layout, settings that are not understood, numbers that are
            not finite, or any layer that does not fit the components.
    """
    layers: dict[tuple[str, str], LoraLayer] = {}
    for path, config in files:
        tensors, header = _read(path)
        if not tensors:
            raise GeneratorError(f"{path}: holds no tensors; train or save the adapter again")
        if all(key.startswith(_KOHYA) for key in tensors):
            find, settings = _kohya_places(components), {}
        else:
            find = _plain_places(components)
            settings = {"": _peft_settings(config)} if config else _header_settings(header, path)
        found = _layers(tensors, find=find, settings=settings, components=components, path=path)
        if twice := sorted(found.keys() & layers.keys()):
            raise GeneratorError(f"{path}: {'.'.join(twice[0])} is in another file of the adapter too")
        layers.update(found)
    return layers


Place = tuple[str, str]
_Find = Callable[[str], Place | None]


def _kohya_places(components: Mapping[str, Any]) -> _Find:
    unet = components["unet"]
    places = {
        name: (component, path)
        for component, part in components.items()
        for path, _ in targets(part)
        for name in spellings(path, component=component, unet=unet)
    }
    return places.get


def _plain_places(components: Mapping[str, Any]) -> _Find:
    """Paths with dots: behind the component's name (diffusers), `base_model.model` (PEFT), or nothing."""
    known = {component: {path for path, _ in targets(part)} for component, part in components.items()}

    def find(name: str) -> Place | None:
        name = name.removeprefix("base_model.model.")
        first, _, rest = name.partition(".")
        options = [(first, rest)] if first in known else [(component, name) for component in known]
        for component, path in options:
            bare = path.removeprefix("text_model.")  # the prefix depends on the version of transformers
            for spelled in (path, bare, f"text_model.{bare}"):
                if spelled in known[component]:
                    return component, spelled
        return None

    return find


def _layers(
    tensors: Mapping[str, torch.Tensor],
    *,
    find: _Find,
    settings: Mapping[str, _Settings],
    components: Mapping[str, Any],
    path: Path,
) -> dict[Place, LoraLayer]:
    grouped: dict[Place, dict[str, torch.Tensor]] = {}
    strange, homeless = [], []
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        place = find(match["module"]) if match else None
        if match is None:
            strange.append(key)
        elif place is None:
            homeless.append(key)
        else:
            # PEFT folders hold a text encoder's layers under the names of transformers 4 and of 5
            own, part = grouped.setdefault(place, {}), _PARTS[match["part"]]
            if part in own and not torch.equal(own[part], tensor):
                raise GeneratorError(
                    f"{path}: {'.'.join(place)} stands there twice, with other values; save the adapter again"
                )
            own[part] = tensor
    if strange:
        raise GeneratorError(
            f"{path}: {len(strange)} of {len(tensors)} tensors belong to no known layout, such as "
            f"{strange[0]!r}; LoRA and DoRA in diffusers', PEFT's and kohya's layout are read (no LoHa, LoKr "
            "or trained biases)"
        )
    if homeless:
        raise GeneratorError(
            f"{path}: {len(homeless)} of {len(tensors)} tensors have no place in this model, such as "
            f"{homeless[0]!r}; made for another architecture: use the LoRA with a model of its own base"
        )
    _require_targets(grouped.keys(), settings=settings, components=components, path=path)
    layers = {}
    for (component, name), parts in grouped.items():
        chosen = settings.get(component, settings.get(""))
        if settings and chosen is None:
            raise GeneratorError(
                f"{path}: its header has no settings for the {component}, so its alpha is lost; save it again"
            )
        weight = components[component].get_submodule(name).weight
        layers[component, name] = _layer(parts, weight, name=name, settings=chosen, path=path)
    return layers


def _require_targets(
    found: Collection[Place], *, settings: Mapping[str, _Settings], components: Mapping[str, Any], path: Path
) -> None:
    """Every layer that the settings name has its matrices; a file that was cut short would change less."""
    present = {component for component, _ in found}
    for component, part in components.items():
        chosen = settings.get(component, settings.get("") if component in present else None)
        if chosen is None or not isinstance(chosen.target_modules, list):
            continue  # a file's regular expression is not run
        if chosen.layers_to_transform is not None or isinstance(chosen.exclude_modules, str):
            continue
        left_out = chosen.exclude_modules or []
        lost = [
            f"{component}.{name}"
            for name, _ in targets(part)
            if _is_named(name, chosen.target_modules)
            and not _is_named(name, left_out)
            and (component, name) not in found
        ]
        if lost:
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            raise GeneratorError(
                f"has no matrices for {len(lost)} of the layers that its target_modules name "
                f"({', '.join(lost[:3])}{more})",
                file=path,
                remedy="Fetch or save the adapter again.",
            )


def _is_named(name: str, chosen: Sequence[str]) -> bool:
    """PEFT's rule for a list of names: the path itself, or its end behind a dot."""
    bare = name.removeprefix("text_model.")
    ends = [end.removeprefix("text_model.") for end in chosen]
    return any(bare == end or bare.endswith(f".{end}") for end in ends)


def _layer(
    parts: Mapping[str, torch.Tensor],
    weight: torch.Tensor,
    *,
    name: str,
    settings: _Settings | None,
    path: Path,
) -> LoraLayer:
    if missing := [part for part in ("down", "up") if part not in parts]:
        raise GeneratorError(f"{path}: {name} has no {missing[0]} matrix; fetch or save the adapter again")
    parts = {part: tensor.float() for part, tensor in parts.items()}
    if not all(torch.isfinite(tensor).all() for tensor in parts.values()):
        raise GeneratorError(f"{path}: {name} has values that are not finite; its training failed")
    down, up = parts["down"], parts["up"]
    if math.prod(weight.shape[2:]) == 1:  # linear layers and 1x1 convolutions are saved either way
        down, up = (t.flatten(1) if t.shape[2:] == (1, 1) else t for t in (down, up))
    outputs, inputs = weight.shape[0], math.prod(weight.shape[1:])
    fits = min(down.ndim, up.ndim) >= 2 and down.numel() and down.shape[1:].numel() == inputs
    if not fits or up.numel() != outputs * len(down) or up.shape[:2] != (outputs, len(down)):
        raise GeneratorError(
            f"{path}: {name} has matrices {tuple(up.shape)} and {tuple(down.shape)}, the model's weight is "
            f"{tuple(weight.shape)}; made for another architecture: use the LoRA with a model of its "
            "own base"
        )
    rank, magnitude = len(down), _magnitude(parts, outputs, f"{path}: {name}")
    if settings is None:
        return LoraLayer(down, up, _alpha(parts.get("alpha"), rank, path) / rank, magnitude)
    if settings.use_dora != (magnitude is not None):
        raise GeneratorError(
            f"{path}: use_dora is {settings.use_dora}, but {name} has {'no' if magnitude is None else 'its'} "
            "DoRA lengths; save the adapter again"
        )
    if (said := _for_module(settings.rank_pattern, name, settings.r, path)) != rank:
        raise GeneratorError(f"{path}: {name} is of rank {rank}, its configuration says {said}; save again")
    alpha = _for_module(settings.alpha_pattern, name, settings.lora_alpha, path)
    return LoraLayer(down, up, alpha / (math.sqrt(rank) if settings.use_rslora else rank), magnitude)


def _magnitude(parts: Mapping[str, torch.Tensor], outputs: int, where: str) -> torch.Tensor | None:
    lycoris = parts.get("dora_scale")
    found = parts.get("magnitude") if lycoris is None else lycoris
    if found is None:
        return None
    # LyCORIS may also measure columns, (1, inputs); PEFT's convolutions have (1, outputs, 1, 1).
    if found.numel() != outputs or (lycoris is not None and found.shape[0] != outputs):
        raise GeneratorError(
            f"{where} has DoRA lengths of shape {tuple(found.shape)}, not one for each of its {outputs} "
            "outputs; only that kind is read"
        )
    return found.flatten()


def _alpha(alpha: torch.Tensor | None, rank: int, path: Path) -> float:
    if alpha is None:
        return float(rank)
    if alpha.numel() != 1:
        raise GeneratorError(f"{path}: an alpha has the shape {tuple(alpha.shape)}; it must be one number")
    return float(alpha)


def _for_module(pattern: Mapping[str, Any], name: str, default: Any, path: Path) -> Any:
    """PEFT's choice by pattern: the first that equals the path, or its end behind a dot."""
    bare = name.removeprefix("text_model.")
    for key, value in pattern.items():
        plain = key.removesuffix("$").replace("\\.", ".")
        whole, plain = plain.startswith("^"), plain.removeprefix("^").removeprefix("text_model.")
        if not re.fullmatch(r"[\w.]+", plain):  # a file's regular expression is not run
            raise GeneratorError(f"{path}: the pattern {key!r} is no module's name; save the adapter again")
        if bare == plain or (not whole and bare.endswith("." + plain)):
            return value
    return default


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise GeneratorError(
            f"{path}: cannot be read as safetensors ({error}); fetch or save the adapter again"
        ) from error


def _header_settings(header: Mapping[str, str], path: Path) -> dict[str, _Settings]:
    """By component, or "" for all; without diffusers' header alpha is the rank, or what `.alpha` says."""
    if METADATA_KEY not in header:
        return {}
    values = _json_object(header[METADATA_KEY], f"{path}: {METADATA_KEY} in its header")
    if "r" in values:  # a file of one component alone, by its save_lora_adapter
        return {"": _settings(values, str(path))}
    grouped: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        component, _, name = key.partition(".")
        grouped.setdefault(component, {})[name] = value
    return {component: _settings(own, f"{path}: {component}") for component, own in grouped.items()}


def _peft_settings(path: Path) -> _Settings:
    values = _json_object(path.read_text(encoding="utf-8", errors="replace"), str(path))
    if values.get("peft_type") != "LORA":
        raise GeneratorError(f"{path}: peft_type is {values.get('peft_type')!r}; only LORA is read")
    return _settings(values, str(path))


def _settings(values: Mapping[str, Any], where: str) -> _Settings:
    try:
        settings = _Settings.model_validate(values)
    except ValidationError as error:
        raise explain(error, where, error=GeneratorError, remedy="Save the adapter again.") from error
    refused = {
        key: value
        for key, value in values.items()
        if key not in _WITHOUT_EFFECT and key not in _Settings.model_fields and value
    }
    if settings.bias != "none":
        refused["bias"] = settings.bias
    if settings.init_lora_weights not in _PLAIN_STARTS:
        refused["init_lora_weights"] = settings.init_lora_weights
    if refused:
        key, value = next(iter(refused.items()))
        raise GeneratorError(f"{where}: {key} is {value!r}, which is not understood; merge it with peft")
    return settings


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise GeneratorError(f"{where} is not valid JSON: {error}; save the adapter again") from error
    if not isinstance(values, dict):
        raise GeneratorError(f"{where} must hold a JSON object, not {type(values).__name__}")
    return values
