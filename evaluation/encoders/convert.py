"""Pickled weights written anew as safetensors; of a pickle nothing but its tensors is read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluation.encoders import open_clip_folder as open_clip
from evaluation.encoders import transformers_model as transformers
from evaluation.encoders.backbones import check_weights, renamed
from evaluation.encoders.base import EncoderError, read_json
from evaluation.encoders.load import load_encoder
from promptopt.base.files import file_digest, new_file, new_folder
from promptopt.base.hub import HubAddress, downloading

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_WRAPPED = ("state_dict_ema", "state_dict", "model_state_dict", "model", "teacher")
_OPEN_CLIP_PICKLE = "open_clip_pytorch_model.bin"
_TRANSFORMERS_PICKLE = "pytorch_model.bin"


@dataclass(frozen=True)
class Converted:
    """What was read and written.

    Attributes:
        source, target: the pickle, and the safetensors file.
        source_sha256, target_sha256: of the two files.
        tensors: their number.
        notes: what is left to do, in sentences.
    """

    source: Path
    source_sha256: str
    target: Path
    target_sha256: str
    tensors: int
    notes: tuple[str, ...] = ()


def convert_file(source: str | Path, target: str | Path, *, like: str | None = None) -> Converted:
    """Write the tensors of a pickle as a safetensors file.

    The pickle is opened by ``torch.load(weights_only=True)``: what is not a tensor or a plain value is
    refused and never run.

    Args:
        source: a file of PyTorch weights (``.pth``, ``.pt``, ``.bin``, ``.ckpt``): tensors by name, or these
            under one of the usual keys ("state_dict", "model"...).
        target: the safetensors file to write.
        like: ``timm:NAME`` or ``torchvision:NAME`` that the tensors must fit. Names of another port, with the
            same shapes in the same order, become the architecture's own.

    Raises:
        EncoderError: no such file, more than tensors in it, or weights of another network.

    Example:
        >>> import tempfile, torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> torch.save({"weight": torch.zeros(2, 3)}, folder / "w.pth")
        >>> convert_file(folder / "w.pth", folder / "w.safetensors").tensors
        1
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise EncoderError(f"{target}: the file to write must end in .safetensors; rename it")
    tensors = read_pickle(source)
    if like is not None:
        tensors = renamed(tensors, like)
        check_weights(tensors, like, where=str(source))
    return _written(source, target, tensors)


def convert_folder(source: str | Path, target: str | Path) -> Converted:
    """Write a model's folder anew, its pickle as safetensors; the other files are copied.

    Args:
        source: a folder in open_clip's layout (``open_clip_config.json``) or in transformers'
            (``config.json``), or ``hf:owner/name[@revision]``, which is fetched with its pickle.
        target: folder to write, empty or new; what `load_encoder` reads. The model is loaded once from it.

    Raises:
        EncoderError: neither layout, no pickle, a target that is in use, or weights that do not load.
    """
    folder, target = _local(source), Path(target)
    if target.exists() and any(target.iterdir()):
        raise EncoderError(f"{target}: holds files; give a new folder")
    if (folder / open_clip.CONFIG).is_file():
        kept = [open_clip.CONFIG, *open_clip.TOKENIZER_FILES, open_clip.TEXT_TOWER_CONFIG]
        pickle, weights = _OPEN_CLIP_PICKLE, open_clip.WEIGHTS
    elif transformers.model_type(folder) is not None:
        kept = [transformers.CONFIG, transformers.PROCESSOR]
        pickle, weights = _TRANSFORMERS_PICKLE, transformers.WEIGHTS
    else:
        raise EncoderError(
            f"{source}: neither {open_clip.CONFIG} nor a transformers {transformers.CONFIG}; for weights "
            "alone give the file, and a .safetensors file to write"
        )
    found = [path for path in (folder / pickle, *_pickles(folder)) if path.is_file()]
    if not found:
        raise EncoderError(f"{source}: no {pickle}, so there is nothing to convert")
    tensors = read_pickle(found[0])
    target.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(target) as partial:
        for name in kept:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, partial / name)
        note = _text_tower(partial) if weights == open_clip.WEIGHTS else None
        done = _written(found[0], partial / weights, tensors)
        if note is None:
            load_encoder(partial, device="cpu")
    return replace(done, target=target / weights, notes=() if note is None else (note,))


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that torch wrote, and nothing else of it.

    Raises:
        EncoderError: no such file, or one that holds more than tensors and plain values, or no tensor.
    """
    from pickle import UnpicklingError

    if path.suffix not in PICKLES:
        raise EncoderError(f"{path}: the suffix {path.suffix!r} is none of {', '.join(PICKLES)}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise EncoderError(f"{path}: no such file; check the path") from error
    except UnpicklingError as error:
        raise EncoderError(
            f"{path}: holds more than tensors and plain values, so it is not opened ({_first_line(error)}); "
            "ask its authors for safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise EncoderError(f"{path}: is no file of PyTorch weights ({_first_line(error)})") from error
    for key in _WRAPPED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = (
        {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise EncoderError(f"{path}: holds no tensors by name, but a {type(content).__name__}")
    if all(key.startswith("module.") for key in tensors):  # as data-parallel training saves them
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def _local(source: str | Path) -> Path:
    text = str(source)
    if not text.startswith("hf:"):
        folder = Path(source)
        if not folder.is_dir():
            raise EncoderError(f"{folder}: no such folder; give a folder, a file or hf:owner/name")
        return folder
    from huggingface_hub import snapshot_download

    address = HubAddress.parse(text, error=EncoderError)
    wanted = [open_clip.CONFIG, *open_clip.TOKENIZER_FILES, transformers.CONFIG, transformers.PROCESSOR]
    wanted += [_OPEN_CLIP_PICKLE, _TRANSFORMERS_PICKLE]
    with downloading(address, error=EncoderError):
        return Path(snapshot_download(address.repository, revision=address.revision, allow_patterns=wanted))


def _pickles(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in PICKLES)


def _text_tower(folder: Path) -> str | None:
    """Puts a transformers text tower's configuration into the folder; what to do where it cannot be had."""
    text = read_json(folder / open_clip.CONFIG).get("model_cfg", {}).get("text_cfg", {})
    name, path = text.get("hf_model_name"), folder / open_clip.TEXT_TOWER_CONFIG
    if not name or open_clip.is_text_tower(path):
        return None
    from huggingface_hub import hf_hub_download

    address = HubAddress.parse(f"hf:{name}", error=EncoderError)
    try:
        with downloading(address, error=EncoderError):
            shutil.copyfile(hf_hub_download(address.repository, open_clip.TEXT_TOWER_CONFIG), path)
    except EncoderError:
        return (
            f"The text tower's configuration could not be fetched: put {open_clip.TEXT_TOWER_CONFIG} of "
            f"{name} into the new folder, or stay connected when the encoder is first loaded."
        )
    return None


def _written(source: Path, target: Path, tensors: Mapping[str, Tensor]) -> Converted:
    from safetensors.torch import save_file

    with new_file(target) as partial:
        # a copy of each: tensors that share memory cannot be written
        save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, partial, {"format": "pt"})
    return Converted(source, file_digest(source), target, file_digest(target), len(tensors))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
