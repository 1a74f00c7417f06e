"""`promptopt doctor`: what is installed, what is there, what is missing."""

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

PACKAGES = (
    "torch",
    "diffusers",
    "peft",
    "transformers",
    "open_clip_torch",
    "optuna",
    "scikit-learn",
    "numpy",
    "pillow",
    "safetensors",
    "clean-fid",
)
_OPTIONAL = frozenset({"clean-fid"})
FLAGS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "OMP_NUM_THREADS")
_LITTLE_DISK = 5e9


def doctor(
    folder: Annotated[Path, typer.Option(help="Folder whose disk is looked at.")] = Path(),
) -> None:
    """Check the installation; exits with 1 when something that a study needs is broken."""
    from importlib import metadata

    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    broken = 0

    def line(mark: str, name: str, text: str) -> None:
        style = {"ok": "green", "--": "yellow", "BAD": "red"}[mark]
        console.print(f"[{style}]{mark:<4}[/] {name:<22}", end="")
        console.print(text, markup=False)

    line("ok", "python", f"{platform.python_version()} on {platform.platform()}, {sys.executable}")
    for name in ("promptopt", *PACKAGES):
        try:
            line("ok", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            missing = "--" if name in _OPTIONAL else "BAD"
            broken += missing == "BAD"
            line(missing, name, "not installed" + (" (optional)" if name in _OPTIONAL else ""))
    line("ok", "CPU", f"{os.cpu_count()} cores")
    for name, check in (
        ("devices", _devices),
        ("embedded generator", _generator),
        ("embedded CLIP", _clip),
        ("embedded judge", _judge),
    ):
        try:
            line("ok", name, check())
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            broken += 1
            line("BAD", name, str(error) or type(error).__name__)
    free = shutil.disk_usage(folder).free
    line("ok" if free > _LITTLE_DISK else "--", "disk", f"{free / 1e9:.1f} GB free at {folder.resolve()}")
    for name in FLAGS:
        line("ok", name, os.environ.get(name, "not set"))
    if broken:
        raise typer.Exit(1)


def _devices() -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    cuda = ", ".join(f"cuda:{index} {name}" for index, name in enumerate(names)) or "no CUDA device"
    return f"{cuda}; {torch.get_num_threads()} CPU threads"


def _generator() -> str:
    from generators.backend import load

    loaded = load("embedded", device="cpu")
    return f"loads, {loaded.max_tokens} tokens a prompt, fingerprint {loaded.fingerprint[:12]}"


def _clip() -> str:
    from evaluation.encoders import load_encoder

    loaded = load_encoder("embedded", device="cpu")
    return f"loads, {loaded.dim} features, fingerprint {loaded.fingerprint[:12]}"


def _judge() -> str:
    from evaluation.judge import load_judge

    loaded = load_judge("embedded", device="cpu")
    return f"loads, reads {', '.join(loaded.names)}"
