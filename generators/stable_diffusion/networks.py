"""Reading and writing the networks of a pipeline folder, in a form that transformers 4 and 5 both load."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from generators.errors import GeneratorError
from generators.folder import LIBRARIES
from promptopt.base.errors import PromptoptError
from promptopt.base.files import write_bytes
from promptopt.base.weights import REMEDY, require_loaded

NETWORKS = ("unet", "vae", "text_encoder", "text_encoder_2")
"""The components of a pipeline folder that have weights, as far as a pipeline has them."""

TOWER = "text_model."
"""What transformers 4 puts before every tensor of a `CLIPTextModel`; 5 has no prefix, and takes it off."""

_WEIGHTS = "model.safetensors"
_FAILURES = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, SafetensorError)


def load_networks(folder: Path, *, error: type[PromptoptError] = GeneratorError) -> dict[str, Any]:
    """The networks that a folder's model_index.json names, on the CPU.

    Raises:
        PromptoptError: as ``error``, when one cannot be loaded or is not wholly what its file holds.
    """
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    found = {}
    for name in NETWORKS:
        library, kind = index.get(name) or (None, None)
        if library is None:
            continue
        # any other library would be code that the folder brings along
        kinds = importlib.import_module(library) if library in LIBRARIES else None
        network = getattr(kinds, str(kind), None)
        if network is None:
            raise error(
                f"is no class of the installed {library}",
                file=folder / "model_index.json",
                key=name,
                value=kind,
                remedy=f"Upgrade {library}, or take another model.",
            )
        found[name] = load_network(folder / name, network, error=error)
    return found


def load_network(folder: Path, kind: Any, *, error: type[PromptoptError] = GeneratorError) -> Any:
    """A network of diffusers or transformers from its folder, on the CPU, in evaluation mode.

    Args:
        folder: with config.json and safetensors.
        kind: the network's class.
        error: the class to raise.

    Raises:
        PromptoptError: as ``error``, when it cannot be loaded, or when a tensor is missing, left over or of
            another shape.
    """
    # transformers names tensors of another shape only if it may go on; diffusers names them as it gives up
    on = {"ignore_mismatched_sizes": True} if kind.__module__.startswith("transformers.") else {}
    try:
        with quiet_loading():
            network, info = kind.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **on
            )
    except _FAILURES as failure:
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        remedy = "Complete the download, or save it again."
        if pickles:
            remedy = f"{pickles[0]} is a pickle, which could run code and is never read: convert it."
        raise error(
            f"cannot be loaded as a {kind.__name__} ({failure})", file=folder, remedy=remedy
        ) from failure
    remedy = REMEDY
    if _lacks_tower(info["missing_keys"], info["unexpected_keys"]):
        remedy = "It was saved by transformers 5 in a form that 4 does not read: install transformers 5."
    require_loaded(info, folder, error=error, remedy=remedy)
    return network


def save_for_both(text_encoder: Path) -> None:
    """Rename the tensors of a saved `CLIPTextModel` so that transformers 4 finds them too; none is changed.

    Does nothing to a folder that has the names already, as `CLIPTextModelWithProjection` always has.
    """
    path = text_encoder / _WEIGHTS
    tensors = load(path.read_bytes())
    if any(name.startswith(TOWER) for name in tensors):
        return
    renamed = {TOWER + name: tensor for name, tensor in tensors.items()}
    write_bytes(path, save(renamed, metadata={"format": "pt"}))


def _lacks_tower(missing: Any, unexpected: Any) -> bool:
    return bool(missing) and {TOWER + name for name in unexpected} == set(missing)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keeps the libraries' bars and warnings about loading off the terminal, and restores their settings.

    What they warn of, tensors that are missing or left over, is an error here.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    logs = (diffusers_logging, transformers_logging)
    before = [(log, log.is_progress_bar_enabled(), log.get_verbosity()) for log in logs]
    for log in logs:
        log.disable_progress_bar()
        log.set_verbosity_error()
    try:
        yield
    finally:
        for log, bar, verbosity in before:
            log.set_verbosity(verbosity)
            if bar:
                log.enable_progress_bar()
