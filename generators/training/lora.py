"""Low-rank adapters in the UNet and the text encoder, by PEFT."""

from typing import Any

import torch

from generators.training.parts import Parts
from generators.training.spec import LoraSpec
from promptopt.base.training.errors import TrainingError


def attach_lora(parts: Parts, spec: LoraSpec, *, text: bool, seed: int) -> None:
    """Add a trainable adapter "default" to the UNet, and with ``text`` to the text encoder; freeze the rest.

    Raises TrainingError when no layer has a name of ``targets``, or ``text`` is asked of an XL model.
    """
    if text and parts.text_encoder_2 is not None:
        raise TrainingError("training.train_text_encoder is not supported for SDXL; set it to false")
    parts.unet.requires_grad_(False)
    parts.text_encoder.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _add(parts.unet, spec, spec.targets, key="lora.targets")
        if text:
            _add(parts.text_encoder, spec, spec.text_targets, key="lora.text_targets")


def cast_frozen(module: torch.nn.Module, dtype: torch.dtype, *, norms: bool) -> None:
    """What is not trained to ``dtype``, in place; without ``norms`` the linear layers and convolutions alone.

    Everything else becomes float32. On a CPU, autocast has no normalization of half precision weights.
    """
    for part in module.modules():
        half = norms or isinstance(part, torch.nn.Linear | torch.nn.Conv2d)
        for weight in part.parameters(recurse=False):
            wanted = dtype if half and not weight.requires_grad else torch.float32
            weight.data = weight.data.to(wanted)


def _add(module: Any, spec: LoraSpec, targets: tuple[str, ...], *, key: str) -> None:
    from peft import LoraConfig

    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha if spec.alpha is not None else spec.rank,
        lora_dropout=spec.dropout,
        init_lora_weights="gaussian",
        use_rslora=spec.rslora,
        use_dora=spec.dora,
        target_modules=list(targets),
    )
    try:
        module.add_adapter(config, "default")
    except ValueError as error:
        raise TrainingError(f"{key} {list(targets)}: {error}") from error
