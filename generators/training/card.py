"""The model card that is written beside a trained pipeline."""

import json
from collections.abc import Mapping
from typing import Any

from generators.training.loop import LoopResult
from generators.training.parts import Parts
from generators.training.spec import SdTrainingSpec

_TEXT = """---
library_name: diffusers
pipeline_tag: text-to-image
---
# A Stable Diffusion trained with promptopt

A `StableDiffusionPipeline` for {size}x{size} pictures, {millions:.1f} M parameters, {prediction_type}.
It has no safety checker. It is for research; it is not a medical device, and what it draws is synthetic.
A model trained on patients' pictures may repeat parts of them.

| | |
|---|---|
{rows}

## Recipe
```json
{recipe}
```
"""


def model_card(
    spec: SdTrainingSpec,
    parts: Parts,
    *,
    data_fingerprint: str,
    pictures: int,
    too_long: int,
    vae_report: Mapping[str, Any],
    unet: LoopResult,
) -> str:
    """Markdown that says on what, how long and with what settings a pipeline was trained, and its losses."""
    rows: list[tuple[str, str]] = [
        ("Data (sha256 of metadata.jsonl)", f"`{data_fingerprint}`"),
        ("Pictures trained on (pool reference)", str(pictures)),
        ("Distinct captions too long for the text encoder (cut)", str(too_long)),
    ]
    if vae_report.get("given"):
        rows.append(("VAE", "taken as it was given"))
    else:
        psnr = vae_report["psnr"]
        held = "none held out" if psnr is None else f"{psnr:.2f} dB on {vae_report['held_out']} pictures"
        rows += [
            ("VAE: steps, batch", f"{spec.vae_training.steps}, {spec.vae_training.batch_size}"),
            ("VAE: last mean loss", _number(vae_report["loss"])),
            ("VAE: held-out PSNR", held),
            ("VAE: CPU time", _minutes(vae_report["cpu_seconds"])),
        ]
    rows += [
        ("Latent scaling factor", f"{parts.vae.config.scaling_factor:.4f}"),
        ("UNet: steps, batch", f"{unet.steps}, {spec.training.batch_size}"),
        ("UNet: last mean loss", _number(unet.loss)),
        ("UNet: CPU time", _minutes(unet.cpu_seconds)),
        ("UNet: wall-clock time", _minutes(unet.seconds)),
    ]
    modules = (parts.vae, parts.unet, parts.text_encoder)
    return _TEXT.format(
        size=spec.size,
        millions=sum(p.numel() for module in modules for p in module.parameters()) / 1e6,
        prediction_type=parts.scheduler.config.get("prediction_type", "epsilon"),
        rows="\n".join(f"| {name} | {value} |" for name, value in rows),
        recipe=json.dumps(spec.model_dump(mode="json"), indent=1),
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.5f}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes"
