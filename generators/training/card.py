"""The model card that is written beside a trained pipeline."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from generators.training.parts import Parts
from generators.training.spec import SdTrainingSpec
from promptopt.base.training.loop import LoopResult

_TEXT = """---
library_name: diffusers
pipeline_tag: text-to-image
---
# A Stable Diffusion trained with promptopt

A {kind} for {size}x{size} images, {millions:.1f} M parameters, {prediction_type}.
It has no safety checker. It is for research; it is not a medical device, and what it draws is synthetic.
A model trained on patients' images may repeat parts of them.

| | |
|---|---|
{rows}

## Recipe
```json
{recipe}
```
"""


@dataclass(frozen=True)
class Card:
    """What a card tells beside the recipe. ``validation`` is the best one's step, metric and value."""

    notes: Sequence[tuple[str, str]]
    pictures: int
    class_pictures: int
    too_long: int
    vae: Mapping[str, Any]
    unet: LoopResult
    validation: Mapping[str, Any] | None = None


def model_card(spec: SdTrainingSpec, parts: Parts, card: Card) -> str:
    """Markdown that says on what, how long and with what settings a model was trained, and its losses."""
    vae_report, unet = card.vae, card.unet
    rows: list[tuple[str, str]] = [
        *card.notes,
        ("Images trained on (pool reference)", str(card.pictures)),
        ("Distinct captions too long for the text encoder (cut)", str(card.too_long)),
    ]
    if card.class_pictures:
        rows.append(("Class images (made by the base model)", str(card.class_pictures)))
    if vae_report.get("given"):
        rows.append(("VAE", "taken as it was given"))
    else:
        psnr = vae_report["psnr"]
        held = "none held out" if psnr is None else f"{psnr:.2f} dB on {vae_report['held_out']} images"
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
    if card.validation is not None:
        best = card.validation
        rows.append(
            (
                "Best validation, whose weights these are",
                f"{best['metric']} {best['value']:.4g} at step {best['step']}",
            )
        )
    counts = [sum(p.numel() for p in network.parameters()) / 1e6 for network in parts.networks.values()]
    kind = type(parts.pipeline()).__name__
    if spec.lora is not None:
        trained = sum(p.numel() for n in parts.networks.values() for p in n.parameters() if p.requires_grad)
        kind = f"LoRA of rank {spec.lora.rank} ({trained / 1e6:.2f} M parameters) for a `{kind}`"
    else:
        kind = f"`{kind}`"
    return _TEXT.format(
        kind=kind,
        size=spec.size,
        millions=sum(counts),
        prediction_type=parts.scheduler.config.get("prediction_type", "epsilon"),
        rows="\n".join(f"| {name} | {value} |" for name, value in rows),
        recipe=json.dumps(spec.model_dump(mode="json"), indent=1),
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.5f}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes"
