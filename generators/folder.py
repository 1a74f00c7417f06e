"""A Stable Diffusion folder on disk: what must be in it, its fingerprint, its default settings. No torch."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from generators.errors import GeneratorError
from promptopt.base.files import file_digest, kept_digests
from promptopt.base.settings import read_json

DEFAULTS_FILE = "promptopt.json"
SD, SDXL = "StableDiffusionPipeline", "StableDiffusionXLPipeline"
LIBRARIES = ("diffusers", "transformers")  # anything else would be code that the folder brings along
WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "text_encoder_2": "model.safetensors",
}
COMPONENTS = {
    SD: ("scheduler", "text_encoder", "tokenizer", "unet", "vae"),
    SDXL: ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae"),
}
_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json")


class ModelDefaults(BaseModel):
    """`promptopt.json` of a model folder: the settings the model looks best with. Every key is optional."""

    model_config = ConfigDict(extra="forbid", strict=True)

    steps: int | None = Field(default=None, ge=1)
    guidance: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    scheduler: str | None = None
    width: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)


def read_defaults(folder: Path) -> ModelDefaults:
    """Default settings of a model folder; empty when it has no `promptopt.json`."""
    path = folder / DEFAULTS_FILE
    if not path.exists():
        return ModelDefaults()
    remedy = f"Allowed keys: {', '.join(ModelDefaults.model_fields)}."
    return read_json(ModelDefaults, path, error=GeneratorError, remedy=remedy)


def model_files(folder: Path) -> list[Path]:
    """Every file of a Stable Diffusion folder that loading reads, sorted.

    Raises GeneratorError naming the first file that is missing or unusable, and the remedy.
    """
    refuse_pickle(folder)
    if not folder.is_dir():
        raise GeneratorError(f"{folder}: there is no such folder; give a diffusers folder, or hf:owner/name")
    index_path = folder / "model_index.json"
    if not index_path.is_file():
        raise GeneratorError(
            f"{index_path} is missing, so this is no diffusers folder; "
            "make one with StableDiffusionPipeline.save_pretrained, or train one"
        )
    components = COMPONENTS[_pipeline_class(index_path)]
    files = [index_path, _required(folder / "scheduler" / "scheduler_config.json")]
    for component in components:
        if component in WEIGHTS:
            files.append(_required(folder / component / "config.json"))
            files += _weight_files(folder / component, WEIGHTS[component])
        elif component.startswith("tokenizer"):
            files += _tokenizer_files(folder / component)
    return sorted(files)


def refuse_pickle(path: Path) -> None:
    """Raise GeneratorError for a checkpoint file that is a pickle, by its name."""
    if path.is_file() and path.suffix in _PICKLES:
        raise GeneratorError(
            f"{path}: is a pickle, which can run code when it is opened, so it is not read; take the "
            ".safetensors version of it, or, if you trust it, convert it with "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER) and give the folder"
        )


def fingerprint(folder: Path, *, digests: Path | None = None) -> str:
    """sha256 (hexadecimal) over names and contents of every file that loading reads.

    Two folders with the same files have the same fingerprint wherever they lie. Default settings
    (`promptopt.json`), model cards and a safety checker are left out, since no pixel depends on them.

    Args:
        digests: a file that keeps what each file's content was by its size and times, so that gigabytes of
            weights are read once and not by every command.
    """
    files = model_files(folder)
    if digests is not None:
        digests.parent.mkdir(parents=True, exist_ok=True)
        kept_digests(files, digests)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
        found = list(pool.map(file_digest, files))
    total = hashlib.sha256()
    for path, digest in zip(files, found, strict=True):
        total.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return total.hexdigest()


def pipeline_class(folder: Path) -> str:
    """`SD` or `SDXL`, as model_index.json says. Raises GeneratorError when it is neither."""
    return _pipeline_class(folder / "model_index.json")


def _pipeline_class(path: Path) -> str:
    index = read_config(path)
    class_name = index.get("_class_name")
    if class_name not in COMPONENTS:
        raise GeneratorError(
            f"{path}: _class_name is {class_name!r}; only {SD} (Stable Diffusion 1.x, 2.x and models of that "
            f"shape) and {SDXL} are supported"
        )
    for component in COMPONENTS[class_name]:
        entry = index.get(component)
        if not isinstance(entry, list) or len(entry) != 2 or entry[0] not in LIBRARIES:
            raise GeneratorError(
                f"{path}: {component} is {entry!r}; it must be [library, class] with the library one of "
                f"{', '.join(LIBRARIES)} (code from a model folder is never run)"
            )
    return str(class_name)


def _tokenizer_files(tokenizer: Path) -> list[Path]:
    has_slow = all((tokenizer / name).is_file() for name in ("vocab.json", "merges.txt"))
    if not has_slow:
        _required(tokenizer / "tokenizer.json")
    names = (*_TOKENIZER_FILES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    return [tokenizer / name for name in names if (tokenizer / name).is_file()]


def _weight_files(component: Path, name: str) -> list[Path]:
    single = component / name
    if single.is_file():
        return [single]
    index_path = component / f"{name}.index.json"
    if not index_path.is_file():
        others = sorted(p.name for p in component.iterdir() if p.suffix in (".bin", ".ckpt", ".safetensors"))
        found = f"; the folder has {', '.join(others)}" if others else ""
        raise GeneratorError(
            f"{single} is missing{found}; only plain safetensors weights are read: "
            "complete the download, or save the pipeline again with safe_serialization=True"
        )
    weight_map = read_config(index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise GeneratorError(f"{index_path}: weight_map is missing or empty; save the pipeline again")
    shards = sorted({str(value) for value in weight_map.values()})
    for shard in shards:
        if PurePosixPath(shard).name != shard or not shard.endswith(".safetensors"):
            raise GeneratorError(f"{index_path}: {shard!r} is not a safetensors file of the same folder")
    return [index_path, *(_required(component / shard) for shard in shards)]


def _required(path: Path) -> Path:
    if not path.is_file():
        raise GeneratorError(f"{path} is missing; complete the download, or save the pipeline again")
    return path


def read_config(path: Path) -> dict[str, Any]:
    """A configuration of a model folder. Raises GeneratorError where it is missing or no JSON object."""
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise GeneratorError(f"{path} is not valid JSON: {error}; fetch or save it again") from error
    if not isinstance(values, dict):
        raise GeneratorError(f"{path} must hold a JSON object, not {type(values).__name__}")
    return values
