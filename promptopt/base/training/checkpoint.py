"""Checkpoints that a kill cannot spoil: written aside, synced, then renamed; the last whole one loads.

A checkpoint is a folder ``step-00000500`` with ``tensors.safetensors`` (weights, averages, moments),
``state.json`` (counters) and ``sha256.json`` (digests of the two). Nothing is pickled.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from promptopt.base.training.folder import damage, digests

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d{8,})")
_TENSORS, _STATE, _DIGESTS = "tensors.safetensors", "state.json", "sha256.json"


@dataclass(frozen=True)
class Checkpoint:
    """What was saved after ``step`` optimizer steps."""

    step: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path, step: int, *, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], keep: int = 2
) -> Path:
    """Write one checkpoint whole or not at all, then drop all but the last ``keep``."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{step:08d}"
    aside = folder / f".{target.name}-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        # clone: safetensors refuses tensors that share memory, and wants plain contiguous ones
        plain = {
            name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()
        }
        save_file(plain, aside / _TENSORS)
        text = json.dumps({"step": step, **state}, allow_nan=False, indent=1, sort_keys=True)
        (aside / _STATE).write_text(text, encoding="utf-8")
        (aside / _DIGESTS).write_text(json.dumps(digests(aside)), encoding="utf-8")
        for file in (*aside.iterdir(), aside):
            sync(file)
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
        sync(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    for old in steps(folder)[:-keep]:
        shutil.rmtree(folder / f"step-{old:08d}", ignore_errors=True)
    return target


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose files are as they were written; None if there is none.

    Damaged ones are passed over, with a warning in the log.
    """
    for step in reversed(steps(folder)):
        place = folder / f"step-{step:08d}"
        try:
            fault = damage(place, _expected(place))
            if fault is None:
                state = json.loads((place / _STATE).read_text(encoding="utf-8"))
                if state.pop("step") == step:
                    return Checkpoint(step=step, tensors=load_file(place / _TENSORS), state=state)
                fault = "its name says another step than its content"
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            fault = str(error)
        logger.warning("%s: damaged (%s); the checkpoint before it is used, if there is one", place, fault)
    return None


def steps(folder: Path) -> list[int]:
    """The steps of all checkpoints in a folder, whole or damaged, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _expected(place: Path) -> dict[str, str]:
    expected = json.loads((place / _DIGESTS).read_text(encoding="utf-8"))
    if not isinstance(expected, dict) or expected.keys() != {_TENSORS, _STATE}:
        raise ValueError(f"{_DIGESTS} does not list its files")
    return expected
