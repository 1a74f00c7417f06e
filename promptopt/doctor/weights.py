"""Weights that lie on this machine: the hub's cache, known single files, folders given by hand."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from promptopt.base.errors import PromptoptError
from promptopt.formatting.numbers import file_size

_HEADER_LIMIT = 100_000_000  # bytes; safetensors' own
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


class WeightsError(PromptoptError, ValueError):
    """Weights that cannot be used; the message says which file and the remedy."""


@dataclass(frozen=True)
class Cached:
    """A repository in the hub's cache."""

    name: str
    size: int
    incomplete: int


def safetensors_parameters(path: Path) -> int:
    """Number of parameters of a safetensors file, from its header alone.

    Raises:
        WeightsError: not such a file, or cut short.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(_HEADER_LIMIT, size):
                raise ValueError("no header")
            header = json.loads(stream.read(length))
        tensors = [value for name, value in header.items() if name != "__metadata__"]
        end = max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        count = sum(_product(tensor["shape"]) for tensor in tensors)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, TypeError, KeyError, AttributeError, struct.error) as error:
        raise WeightsError(f"{path}: not a safetensors file ({error}). Fetch it again.") from error
    if size < 8 + length + end:
        raise WeightsError(
            f"{path}: cut short, {8 + length + end - size:,} of {8 + length + end:,} bytes are missing. "
            "Fetch it again."
        )
    return count


def describe_folder(folder: Path) -> str:
    """What a folder (or file) of weights is and how large; its files' headers are checked.

    Raises:
        WeightsError: nothing there, a damaged file, pickles alone, or a pipeline that lacks something.
    """
    if folder.is_file() and folder.suffix == ".safetensors":
        return f"safetensors, {safetensors_parameters(folder) / 1e6:,.1f} M parameters"
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such folder or safetensors file. Check the path.")
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        pickles = [path for path in folder.rglob("*") if path.suffix in _PICKLES]
        if pickles:
            raise WeightsError(
                f"{pickles[0]}: a pickle, which may run code and is never loaded. Fetch the safetensors "
                "files of this model, or convert it."
            )
        raise WeightsError(f"{folder}: holds no safetensors file. Check the path.")
    kind = "weights"
    if (folder / "model_index.json").is_file():
        from generators.errors import GeneratorError
        from generators.folder import model_files

        try:
            files = [path for path in model_files(folder) if path.suffix == ".safetensors"]
        except GeneratorError as error:
            raise WeightsError(str(error)) from error
        kind = str(json.loads((folder / "model_index.json").read_text(encoding="utf-8")).get("_class_name"))
    elif (folder / "open_clip_config.json").is_file():
        kind = "open_clip model"
    elif (folder / "adapter_config.json").is_file() or any("lora" in path.name for path in files):
        kind = "LoRA adapter"
    count = sum(safetensors_parameters(path) for path in files)
    size = sum(path.stat().st_size for path in files)
    return f"{kind}, {count / 1e6:,.1f} M parameters, {file_size(size)}, {len(files)} files whole"


def hub_cache() -> tuple[Path, list[Cached]]:
    """The hub's cache folder and the models in it, largest first; none where there is no cache."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    folder = Path(constants.HF_HUB_CACHE)
    try:
        found = scan_cache_dir(folder)
    except (CacheNotFound, ValueError):
        return folder, []
    rows = [
        Cached(repo.repo_id, repo.size_on_disk, sum(1 for _ in _incomplete(Path(repo.repo_path))))
        for repo in found.repos
        if repo.repo_type == "model"
    ]
    return folder, sorted(rows, key=lambda row: (-row.size, row.name))


def inception_file() -> Path | None:
    """The Inception network of FID, where an encoder would look for it."""
    import torch

    from evaluation.encoders.inception import TORCHSCRIPT

    path = Path(torch.hub.get_dir()) / "checkpoints" / TORCHSCRIPT
    return path if path.is_file() else None


def offline() -> bool:
    """Whether the environment forbids the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _incomplete(folder: Path) -> Iterator[Path]:
    return folder.glob("blobs/*.incomplete")


def _product(shape: list[int]) -> int:
    count = 1
    for side in shape:
        count *= int(side)
    return count
