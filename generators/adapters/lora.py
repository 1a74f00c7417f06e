"""LoRA adapters of a generator: their addresses, their files, their share in the fingerprint, their fusing.

An address is `+lora:PATH@SCALE` behind any generator's URI, several in a row. PATH is a safetensors file, a
folder (`pytorch_lora_weights.safetensors`, a PEFT adapter, or a single safetensors file) or
`hf:owner/name[/file.safetensors][@revision]`. What follows the last `@` is the scale if it is a plain decimal
number, so a path or revision that ends like one needs the scale written out: `hf:owner/name@2@1`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.errors import GeneratorError
from generators.folder import ModelDefaults, read_defaults
from promptopt.base.files import file_digest
from promptopt.base.hub import HubAddress, downloading

if TYPE_CHECKING:
    from generators.adapters.lora_layouts import LoraLayer

SEPARATOR = "+lora:"
DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
"""The parts of a pipeline that an adapter can change."""

_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class LoraAddress:
    """One `+lora:PATH@SCALE` of a URI."""

    path: str
    scale: float


@dataclass(frozen=True)
class Adapter:
    """The files of one adapter and its scale.

    Attributes:
        address: what the user wrote for the path.
        weights: safetensors files, each with the PEFT configuration beside it, or None for other layouts.
        digest: sha256 of what is in all of these files, whatever they are called.
        scale: factor of the adapter's change; 0 leaves it out.
        defaults: sampling defaults of the adapter's folder.
    """

    address: str
    weights: tuple[tuple[Path, Path | None], ...]
    digest: str
    scale: float
    defaults: ModelDefaults


def split_uri(uri: str) -> tuple[str, tuple[LoraAddress, ...]]:
    """The URI of the base model, and the adapters in their order.

    Raises GeneratorError for an empty part or a scale that is no finite number.
    """
    base, *parts = uri.split(SEPARATOR)
    if parts and not base:
        raise GeneratorError(f'{uri}: no model stands before "+lora:"; write for example embedded{parts[0]}')
    return base, tuple(_address(part, uri) for part in parts)


def join_uri(base: str, addresses: Sequence[LoraAddress]) -> str:
    """Inverse of split_uri; every scale is written out."""
    return base + "".join(f"{SEPARATOR}{address.path}@{address.scale!r}" for address in addresses)


def scale_uri(uri: str, factor: float) -> str:
    """The URI with every adapter's scale multiplied. Raises GeneratorError where there is no adapter."""
    base, addresses = split_uri(uri)
    if not addresses:
        raise GeneratorError(f"{uri}: has no adapter whose scale could be {factor:g}; write {uri}+lora:PATH")
    return join_uri(base, [LoraAddress(one.path, one.scale * factor + 0.0) for one in addresses])


def _address(part: str, uri: str) -> LoraAddress:
    path, at, last = part.rpartition("@")
    if not at:
        path, last = part, "1"
    elif not _DECIMAL.fullmatch(last):
        known = part.startswith("hf:") or "/" in last or Path(part).expanduser().exists()
        if not last or not known:
            raise GeneratorError(
                f"{uri}: the scale {last!r} of the LoRA {path!r} is not a decimal number; write {path}@0.7"
            )
        path, last = part, "1"
    if not path:
        raise GeneratorError(f'{uri}: no path follows "+lora:"; write +lora:PATH@SCALE')
    scale = float(last)
    if not math.isfinite(scale):
        raise GeneratorError(f"{uri}: the scale of the LoRA {path!r} is too large; usual ones are 0 to 1")
    return LoraAddress(path, scale + 0.0)  # -0.0 and 0.0 are one scale


def find_adapter(address: LoraAddress) -> Adapter:
    """The adapter's files, downloaded if need be, and their digest; what is in them is not checked yet.

    Raises GeneratorError when there is none, when it is a pickle, or when a folder holds several.
    """
    place = _from_hub(address.path) if address.path.startswith("hf:") else Path(address.path).expanduser()
    weights = tuple(_weights(place, address.path))
    digest = hashlib.sha256()
    for pair in weights:
        for path in pair:
            digest.update(b"-" if path is None else _digest(path).encode())
    defaults = read_defaults(place) if place.is_dir() else ModelDefaults()
    return Adapter(address.path, weights, digest.hexdigest(), address.scale, defaults)


def fingerprint(base: str, adapters: Sequence[Adapter]) -> str:
    """The base model's fingerprint with the adapters' contents and scales in it, in their order."""
    if not adapters:
        return base
    total = hashlib.sha256(f"{base}\n".encode())
    for adapter in adapters:
        total.update(f"fused lora\0{adapter.digest}\0{adapter.scale!r}\n".encode())
    return total.hexdigest()


def merge_defaults(base: ModelDefaults, adapters: Sequence[Adapter]) -> ModelDefaults:
    """Sampling defaults: an adapter's own stand over the base model's, a later one's over an earlier's."""
    for adapter in adapters:
        base = base.model_copy(update=adapter.defaults.model_dump(exclude_none=True))
    return base


def fuse(pipeline: Any, adapters: Sequence[Adapter]) -> None:
    """Adds the adapters to a pipeline's weights, in float32 and in memory; the changed weights stay float32.

    The sum is that of peft and of diffusers' `fuse_lora`: W + scale * alpha / rank * up @ down, with DoRA
    each row at its trained length, one adapter after the other. A scale of 0 leaves the adapter out, the
    trained lengths too. Fused and unfused weights round differently: in float32 images differ in the seventh
    digit, in half precision by what that precision costs any image (scripts/bench/lora_fusing.py).

    Raises GeneratorError when a file cannot be read, or when any layer of any adapter does not fit.
    """
    if not adapters:
        return
    import torch

    from generators.adapters.lora_layouts import read_layers

    components = {name: part for name in COMPONENTS if (part := getattr(pipeline, name, None)) is not None}
    changes: dict[tuple[str, str], list[tuple[Adapter, LoraLayer]]] = {}
    for adapter in adapters:
        layers = read_layers(adapter.weights, components)
        if adapter.scale:
            for place, layer in layers.items():
                changes.setdefault(place, []).append((adapter, layer))
    with torch.no_grad():
        for (component, path), stack in changes.items():
            module = components[component].get_submodule(path)
            original = module.weight.detach().float()
            weight = original
            for adapter, layer in stack:
                weight = layer.added(weight, original=original, scale=adapter.scale)
                if not torch.isfinite(weight).all():
                    raise GeneratorError(
                        f"{adapter.address}: scale {adapter.scale} gives {component}.{path} values that are "
                        "not finite; take a smaller scale"
                    )
            module.weight.data = weight


def _weights(place: Path, address: str) -> list[tuple[Path, Path | None]]:
    if place.is_file():
        return [_file(place)]
    if not place.is_dir():
        raise GeneratorError(
            f"{address}: there is no such LoRA; give a .safetensors file, a folder, or hf:owner/name"
        )
    if (place / DIFFUSERS_FILE).is_file():
        return [(place / DIFFUSERS_FILE, None)]
    folders = [folder for folder in (place, *(place / name for name in COMPONENTS)) if _is_peft(folder)]
    if folders:
        return [_file(folder / PEFT_WEIGHTS) for folder in folders]
    found = sorted(place.glob("*.safetensors"))
    if len(found) == 1:
        return [_file(found[0])]
    if found:
        names = ", ".join(path.name for path in found)
        raise GeneratorError(f"{address}: holds several files ({names}); give the path of one of them")
    others = sorted(path.name for path in place.iterdir() if path.suffix in _PICKLES)
    has = f"; {', '.join(others)} is a pickle, which is never read" if others else ""
    raise GeneratorError(
        f"{address}: holds neither {DIFFUSERS_FILE} nor {PEFT_CONFIG} nor another .safetensors file{has}; "
        "save the adapter as safetensors"
    )


def _file(path: Path) -> tuple[Path, Path | None]:
    if path.suffix in _PICKLES:
        raise GeneratorError(
            f"{path}: pickles can run code and are never read; save the adapter as safetensors"
        )
    if path.suffix != ".safetensors":
        raise GeneratorError(f"{path}: is not a LoRA file; it must end in .safetensors")
    if not path.is_file():
        others = [other.name for other in path.parent.glob("adapter_model.*")]
        has = f"; the folder has {', '.join(others)}, and pickles are never read" if others else ""
        raise GeneratorError(f"{path} is missing{has}; save the adapter again as safetensors")
    config = path.parent / PEFT_CONFIG
    return path, config if path.name == PEFT_WEIGHTS and config.is_file() else None


def _is_peft(folder: Path) -> bool:
    return (folder / PEFT_CONFIG).is_file()


def _from_hub(text: str) -> Path:
    address = HubAddress.parse(text, file=True, error=GeneratorError)
    from huggingface_hub import hf_hub_download, snapshot_download

    peft = (PEFT_CONFIG, PEFT_WEIGHTS)
    wanted = [DIFFUSERS_FILE, "promptopt.json", *peft, *(f"{c}/{n}" for c in COMPONENTS for n in peft)]
    with downloading(address, error=GeneratorError, instead="a local path"):
        if address.file:
            return Path(hf_hub_download(address.repository, address.file, revision=address.revision))
        return Path(snapshot_download(address.repository, revision=address.revision, allow_patterns=wanted))


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise GeneratorError(f"{path}: cannot be read ({reason}); check its permissions") from error
