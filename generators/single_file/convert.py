"""A checkpoint file as a diffusers folder: converted once by diffusers, then kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from generators.errors import GeneratorError
from generators.folder import SD, SDXL, WEIGHTS, pipeline_class, refuse_pickle
from generators.single_file.configs import NAMES, write_config
from promptopt.base.files import kept_digests, new_folder, scratch
from promptopt.base.locks import hold
from promptopt.base.weights import require_all

MARK = "?config="
_UNET = "model.diffusion_model."
_PARTS = {
    "UNet": (_UNET,),
    "autoencoder": ("first_stage_model.",),
    "text encoder": ("cond_stage_model.", "conditioner.embedders."),
}
_REMEDY = (
    f"Say which by {MARK}NAME ({', '.join(NAMES)}) or {MARK}FOLDER, a diffusers folder of the same shape."
)


def is_single_file(uri: str) -> bool:
    """Whether an address names a checkpoint file: ``FILE.safetensors`` or ``FILE.safetensors?config=...``."""
    return uri.partition(MARK)[0].endswith((".safetensors", ".ckpt"))


def single_file_folder(uri: str) -> Path:
    """The diffusers folder of a checkpoint file, made on first use.

    It lies in the cache (`PROMPTOPT_CACHE`, by default ~/.cache/promptopt) under the sha256 of the file and
    of what its architecture is, so that a file that changes is converted anew.

    Args:
        uri: FILE.safetensors, with ``?config=NAME`` or ``?config=FOLDER`` where the file does not say what it
            is.

    Raises:
        GeneratorError: no such file, a pickle, a LoRA, another architecture, tensors that are missing.
    """
    text, _, config = uri.partition(MARK)
    path = Path(text).expanduser()
    if not path.is_file():
        raise GeneratorError(f"{path}: there is no such file; check the path")
    if path.suffix == ".ckpt":
        refuse_pickle(path)
    config = config or _architecture(path)
    with scratch() as place:
        shape = place / "config"
        shape.mkdir()
        write_config(config, shape)
        _check_family(path, shape, config)
        cache = Path(os.environ.get("PROMPTOPT_CACHE") or "~/.cache/promptopt").expanduser() / "checkpoints"
        cache.mkdir(parents=True, exist_ok=True)
        (digest,) = kept_digests([path], cache / "digests.json")
        folder = cache / _key(digest, shape)
        with hold(cache / f"{folder.name}.lock", wait=-1):
            if not (folder / "model_index.json").is_file():
                with new_folder(folder) as partial:
                    _convert(path, shape, partial)
    return folder


def _key(digest: str, shape: Path) -> str:
    total = hashlib.sha256(digest.encode())
    for path in sorted(path for path in shape.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(shape).as_posix()}\0".encode() + path.read_bytes())
    return total.hexdigest()[:32]


def _architecture(path: Path) -> str:
    """The name of the architecture that the file's tensors, or its metadata, show."""
    names, facts, channels = _header(path)
    if not any(name.startswith(_UNET) for name in names):
        lora = any("lora" in name for name in names)
        what = "is a LoRA adapter" if lora else "is no whole checkpoint of Stable Diffusion 1.x, 2.x or XL"
        remedy = f"Write MODEL+lora:{path}." if lora else f"Its tensors are called {sorted(names)[:2]}."
        raise GeneratorError(what, file=path, remedy=remedy)
    if channels != 4:
        raise GeneratorError(
            f"its UNet takes {channels} channels: inpainting and image-to-image models cannot make images "
            "from text alone",
            file=path,
        )
    said = facts.get("modelspec.prediction_type", "v" if "v_pred" in names else None)
    first = any(name.startswith("cond_stage_model.transformer.text_model.") for name in names)
    if said is not None and said.startswith("v") and (first or _is_xl(names)):
        raise GeneratorError(
            "predicts v, unlike the published models of its architecture",
            file=path,
            remedy=f"Write {MARK}FOLDER behind it, a diffusers folder whose scheduler says so.",
        )
    if _is_xl(names):
        return "sdxl"
    if first:
        return "sd15"
    if any(name.startswith("cond_stage_model.model.") for name in names):
        if said is None:
            raise GeneratorError(
                "is of Stable Diffusion 2.x, and the file does not say whether it predicts the noise "
                "(2.1-base, 512 pixels) or v (2.1, 768 pixels)",
                file=path,
                remedy=f"Write {MARK}sd21-base or {MARK}sd21 behind it.",
            )
        return "sd21" if said.startswith("v") else "sd21-base"
    raise GeneratorError("has no text encoder that is known", file=path, remedy=_REMEDY)


def _header(path: Path) -> tuple[set[str], dict[str, str], int]:
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            first = f"{_UNET}input_blocks.0.0.weight"
            channels = file.get_slice(first).get_shape()[1] if first in names else 4
            return names, dict(file.metadata() or {}), int(channels)
    except (SafetensorError, OSError) as error:
        raise GeneratorError(
            f"is no whole safetensors file ({error})", file=path, remedy="Download it again."
        ) from error


def _is_xl(names: set[str]) -> bool:
    return any(name.startswith("conditioner.embedders.1.") for name in names)


def _check_family(path: Path, shape: Path, config: str) -> None:
    wanted = SDXL if _is_xl(_header(path)[0]) else SD
    if pipeline_class(shape) != wanted:
        raise GeneratorError(
            f"holds a {wanted}, and the config {config!r} is of a {pipeline_class(shape)}",
            file=path,
            remedy=_REMEDY,
        )


def _convert(path: Path, shape: Path, out: Path) -> None:
    """Write the folder: the files of `shape`, and the weights as diffusers converts them."""
    import diffusers
    import torch

    from generators.stable_diffusion.networks import quiet_loading, save_for_both

    names, _, _ = _header(path)
    for part, prefixes in _PARTS.items():
        if not any(name.startswith(prefixes) for name in names):
            raise GeneratorError(
                f"lacks the {part}, so it is no whole checkpoint",
                file=path,
                remedy="Take the full version of it.",
            )
    never: dict[str, Any] = {"feature_extractor": None, "image_encoder": None}
    if pipeline_class(shape) == SD:
        never = {"feature_extractor": None, "safety_checker": None, "requires_safety_checker": False}
    with safe_open(path, framework="pt") as file:
        half = file.get_slice(next(n for n in names if n.startswith(_UNET))).get_dtype() in ("F16", "BF16")
    try:
        with quiet_loading():
            pipeline = getattr(diffusers, pipeline_class(shape)).from_single_file(
                str(path),
                config=str(shape),
                local_files_only=True,
                torch_dtype=torch.float16 if half else torch.float32,
                **never,
            )
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "meta tensor" in reason:  # torch's word for a weight that nothing was read into
            reason = "it lacks weights of its architecture"
        raise GeneratorError(f"cannot be converted ({reason})", file=path, remedy=_REMEDY) from error
    shutil.copytree(shape, out, dirs_exist_ok=True)
    for name in WEIGHTS:
        network = getattr(pipeline, name, None)
        if network is None:
            continue
        empty = [key for key, tensor in network.state_dict().items() if tensor.is_meta]
        require_all(path, missing=[f"{name}.{key}" for key in empty], error=GeneratorError, remedy=_REMEDY)
        said = (out / name / "config.json").read_bytes()
        with quiet_loading():
            network.save_pretrained(out / name, safe_serialization=True, max_shard_size="100GB")
        (out / name / "config.json").write_bytes(said)  # no version of a library in it
    save_for_both(out / "text_encoder")
