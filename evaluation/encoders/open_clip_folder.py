"""Folders in open_clip's format: building a model, writing it, checking what is there before it is read.

The folder is open_clip's own ``local-dir:`` layout::

    open_clip_config.json         {"model_cfg": {...}, "preprocess_cfg": {...}}
    open_clip_model.safetensors   the weights (float32 or float16; computed in float32)
    tokenizer.json ...            a Hugging Face tokenizer, when text_cfg.hf_tokenizer_name is set

In this layout open_clip takes the tokenizer from the folder whenever ``hf_tokenizer_name`` is not empty,
whatever its value, so that a model with a vocabulary of its own needs no network. Without that key it takes
its own built-in CLIP vocabulary, which needs none either. A text tower from transformers (``hf_model_name``)
asks the hub for its configuration unless the folder holds it as ``config.json``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from evaluation.encoders.base import EncoderError
from promptopt.base.files import file_digest, new_file, write_json

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
# open_clip prefers these two over any pickle in the same folder, in this order
WEIGHT_NAMES = (WEIGHTS, "open_clip_pytorch_model.safetensors")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
TEXT_TOWER_CONFIG = "config.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
REMEDY = (
    "a pickle can run code when it is opened, so only safetensors are read. Convert it once with "
    "promptopt convert, which reads nothing but its tensors"
)


def build_open_clip(
    config: Mapping[str, Any], *, seed: int, preprocess: Mapping[str, Any] | None = None
) -> Any:
    """A model with random weights from open_clip's ``model_cfg`` (``embed_dim``, ``vision_cfg``...).

    Args:
        config: the model's configuration; with ``custom_text`` the text tower is a module of its own.
        seed: of the initial weights; the global random state is left as it was.
        preprocess: entries of open_clip's ``PreprocessCfg`` that differ from its defaults.

    Returns:
        a `torch.nn.Module` in training mode, whose ``visual.preprocess_cfg`` is set.
    """
    from open_clip.model import CLIP, CustomTextCLIP, set_model_preprocess_cfg

    arguments = deepcopy(dict(config))
    custom_text = arguments.pop("custom_text", False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (CustomTextCLIP if custom_text else CLIP)(**arguments)
    set_model_preprocess_cfg(model, _preprocessing(model.visual.image_size, preprocess))
    return model


def save_open_clip(
    folder: str | Path,
    model: Any,
    config: Mapping[str, Any],
    tokenizer_folder: str | Path | None,
    *,
    preprocess: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a model as a folder in open_clip's format, which `load_encoder` and open_clip itself read.

    Args:
        folder: made when absent; files of the same names are replaced, each in one step.
        model: an open_clip model.
        config: its ``model_cfg``; ``text_cfg.hf_tokenizer_name`` is set when a tokenizer is copied.
        tokenizer_folder: a Hugging Face tokenizer to copy; None for open_clip's built-in CLIP vocabulary.
        preprocess: entries of ``PreprocessCfg``; without it, those that the model carries.
        dtype: type of the stored weights, `torch.float32` or `torch.float16` (half the size).

    Returns:
        the folder.

    Raises:
        EncoderError: no tokenizer in `tokenizer_folder`.
    """
    from safetensors.torch import save_file

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    model_config = deepcopy(dict(config))
    if tokenizer_folder is not None:
        found = [Path(tokenizer_folder) / name for name in TOKENIZER_FILES]
        found = [path for path in found if path.is_file()]
        if not any(path.name in ("tokenizer.json", "vocab.json", "vocab.txt") for path in found):
            raise EncoderError(
                f"{tokenizer_folder}: no tokenizer here; expected tokenizer.json or vocab.json"
            )
        model_config["text_cfg"]["hf_tokenizer_name"] = "tokenizer.json"
        for path in found:
            if path.resolve() != (target / path.name).resolve():
                shutil.copyfile(path, target / path.name)
    carried = preprocess if preprocess is not None else getattr(model.visual, "preprocess_cfg", None)
    document = {"model_cfg": model_config, "preprocess_cfg": _preprocessing(model.visual.image_size, carried)}
    tensors = {
        name: tensor.detach()
        .to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
        .clone()
        .contiguous()
        for name, tensor in model.state_dict().items()
    }
    with new_file(target / WEIGHTS) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
    write_json(target / CONFIG, document, indent=2)
    return target


def _preprocessing(size: Any, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    merged = merge_preprocess_dict(asdict(PreprocessCfg()), dict(overrides or {}))
    return {**merged, "size": size}


def read_folder(folder: Path) -> tuple[dict[str, Any], Path]:
    """The checked configuration of a folder and the path of its weights.

    Raises:
        EncoderError: something is missing, broken or could run code; the message names it and the remedy.
    """
    if folder.is_file():
        problem = REMEDY if folder.suffix in _PICKLES else "is a file"
        raise EncoderError(f"{folder}: {problem}; give the folder that it lies in, with {CONFIG}")
    if not folder.is_dir():
        raise EncoderError(
            f"{folder}: no such folder; give 'embedded', a folder in open_clip's format, "
            "'open_clip:MODEL/TAG' or 'hf:owner/name'"
        )
    path = folder / CONFIG
    if not path.is_file():
        raise EncoderError(f"{folder}: no {CONFIG}; an open_clip folder holds it beside {WEIGHTS}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EncoderError(f"{path}: not JSON ({error}); write the file again") from error
    model_config = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model_config, dict):
        raise EncoderError(f"{path}: no 'model_cfg' object; open_clip's layout is {{'model_cfg': ..., ...}}")
    for key in ("embed_dim", "vision_cfg", "text_cfg"):
        if key not in model_config:
            raise EncoderError(f"{path}: model_cfg lacks {key!r}; it has {sorted(model_config)}")
    kwargs = model_config["text_cfg"].get("tokenizer_kwargs") or {}
    if kwargs.get("trust_remote_code"):
        raise EncoderError(
            f"{path}: text_cfg.tokenizer_kwargs asks for trust_remote_code, which runs code from the folder; "
            "remove the key"
        )
    for name in WEIGHT_NAMES:
        if (folder / name).is_file():
            return config, folder / name
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
    if pickles:
        raise EncoderError(f"{folder / pickles[0]}: {REMEDY}: promptopt convert {folder} NEW_FOLDER")
    others = sorted(p.name for p in folder.glob("*.safetensors"))
    hint = f"; rename {others[0]} if that is it" if others else ""
    raise EncoderError(f"{folder}: no weights; expected {WEIGHTS}{hint}")


def is_text_tower(path: Path) -> bool:
    """Whether a config.json describes a text tower that open_clip can build (not, say, a whole CLIPModel)."""
    if not path.is_file():
        return False
    from open_clip.hf_configs import arch_dict

    return json.loads(path.read_text(encoding="utf-8")).get("model_type") in arch_dict


def fingerprint_of(
    weights: Path, model_config: Mapping[str, Any], preprocessing: Mapping[str, Any], extras: Sequence[Path]
) -> str:
    """Hex sha256 of weights, model configuration, preprocessing and those of the extra files that exist."""
    digest = hashlib.sha256()
    policy = {"model": model_config, "preprocessing": preprocessing}
    digest.update(json.dumps(policy, sort_keys=True).encode())
    for path in (weights, *(extra for extra in extras if extra.is_file())):
        # a name of its own for the weights: the same weights under open_clip's two names are one encoder
        label = "weights" if path == weights else path.name
        digest.update(f"\n{label} {file_digest(path)}".encode())
    return digest.hexdigest()
