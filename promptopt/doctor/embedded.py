"""The weights that ship with the package, and their sha256. A new build of them changes this file too."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Folder that holds the packages `generators` and `evaluation`."""

WEIGHTS = {
    "generators/embedded/sd/text_encoder/model.safetensors": (
        "7f95767023895bfd63646c6cbf0dac39e5433c9b7a1d94bf4adbebcc4e513378"
    ),
    "generators/embedded/sd/unet/diffusion_pytorch_model.safetensors": (
        "32fce6edf08fda3c1ea24566a1914d6550b09d6eafe15024cf1fd025af3961d0"
    ),
    "generators/embedded/sd/vae/diffusion_pytorch_model.safetensors": (
        "c02e2c5958359520e6d07d0398332ce7f2729818a00e748ae827314eaa49c7e5"
    ),
    "evaluation/embedded/clip/open_clip_model.safetensors": (
        "a9f6169ee5fc107842f47a343afa8910d6ff24832492025d4fceceeb56ef7fdf"
    ),
    "evaluation/embedded/judge/model.safetensors": (
        "1d83b27ea6f884adfae9bf01a030e6dd99a351e5b5616322a426c5f5cbdb68a1"
    ),
}


def faults(*, root: Path = ROOT) -> list[str]:
    """Which of the files are missing or not what was shipped."""
    found = []
    for name, expected in WEIGHTS.items():
        try:
            content = (root / name).read_bytes()
        except OSError as error:
            found.append(f"{name}: {error.strerror or error}")
            continue
        if content.startswith(b"version https://git-lfs"):
            found.append(f"{name}: a pointer of git-lfs, not the file")
        elif hashlib.sha256(content).hexdigest() != expected:
            found.append(f"{name}: another content than was shipped (sha256, {len(content):,} bytes)")
    return found
