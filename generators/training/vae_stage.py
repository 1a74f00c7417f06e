"""The stage that trains an autoencoder from pictures alone, with its folder and its report."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from generators.stable_diffusion.networks import load_network
from generators.training.device import accelerator
from generators.training.images import Pictures
from generators.training.latents import fingerprint
from generators.training.parts import configuration
from generators.training.spec import SdTrainingSpec
from generators.training.vae import build_vae, train_vae, whiten_colors
from promptopt.base.files import write_json
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.folder import claim, digests, finished
from promptopt.base.training.progress import JsonLog, OnProgress


def train_vae_stage(
    spec: SdTrainingSpec,
    *,
    pictures: Sequence[Path],
    held_out: Sequence[Path] = (),
    out: Path,
    start: AutoencoderKL | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> AutoencoderKL:
    """The VAE stage alone, from pictures without captions; the result is kept in ``out/stages/vae/model``.

    With ``start`` the autoencoder of a checkpoint is trained further, or kept as it is if the recipe's steps
    are 0. Raises TrainingError, TrainingDataError.
    """
    vae = start if start is not None else build_vae(spec.vae, size=spec.size, seed=spec.vae_training.seed)
    if spec.vae_training.steps == 0:
        if start is None:
            raise TrainingError(
                "vae_training.steps is 0 but there is no VAE to start from; set steps, or init"
            )
        vae_is_given(out)
        return vae
    seen = Pictures(tuple(pictures), spec.size)
    stage = out / "stages" / "vae"
    # of several processes one writes, while the others wait
    place = accelerator(device=device, precision=spec.vae_training.precision)
    identity = {
        "pictures": hashlib.sha256("".join(seen.keys).encode()).hexdigest(),
        "size": spec.size,
        "start": fingerprint(vae),
        "config": configuration(vae),
        "training": spec.vae_training.identity(),
    }
    with place.main_process_first():
        claim(stage, identity)
    model, report_file = stage / "model", _report(out)
    if finished(report_file, model):
        kept: AutoencoderKL = load_network(model, AutoencoderKL, error=TrainingError)
        return kept
    if start is None:
        whiten_colors(vae, seen, seed=spec.vae_training.seed)
    report = train_vae(
        vae,
        seen,
        spec=spec.vae_training,
        held_out=Pictures(tuple(held_out), spec.size) if held_out else None,
        work=stage,
        place=place,
        keep_latents=start is not None,
        on_progress=on_progress,
    )
    vae.to(memory_format=torch.contiguous_format)
    if place.is_main_process:
        vae.save_pretrained(model, safe_serialization=True)
        summary = {
            "loss": report.loop.loss,
            "seconds": report.loop.seconds,
            "cpu_seconds": report.loop.cpu_seconds,
            "scaling_factor": report.scaling_factor,
            "psnr": report.psnr,
            "pictures": len(seen),
            "held_out": len(held_out),
            "files": digests(model, "*.safetensors"),
        }
        JsonLog(stage / "log.jsonl").write("done", **summary)
        write_json(report_file, summary)
    place.wait_for_everyone()
    return vae


def vae_is_given(out: Path) -> None:
    """Note for the card that the autoencoder was not trained here."""
    _report(out).parent.mkdir(parents=True, exist_ok=True)
    write_json(_report(out), {"given": True})


def read_vae_report(out: Path) -> dict[str, Any]:
    """What the stage left: {"given": True}, or its losses, times and PSNR."""
    report: dict[str, Any] = json.loads(_report(out).read_text(encoding="utf-8"))
    return report


def _report(out: Path) -> Path:
    return out / "stages" / "vae" / "report.json"
