"""What kohya's sd-scripts call a module of a Stable Diffusion: `lora_unet_...`, `lora_te_text_model_...`.

A LoRA in kohya's layout names each layer by its module's path with underscores for dots. The text encoder's
paths begin with `text_model`, which transformers 5 dropped from `CLIPTextModel`. SDXL's UNet has the names of
Stability's own code instead of diffusers' (`input_blocks`, `middle_block`, `output_blocks`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

_TOWER = ("embeddings.", "encoder.", "final_layer_norm")
_FIXED = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_BLOCK = re.compile(
    r"(?P<side>down|mid|up)_block(?:s\.(?P<block>\d+))?\.(?P<kind>resnets|attentions|downsamplers|upsamplers)"
    r"\.(?P<index>\d+)\.(?P<rest>.+)"
)


def targets(component: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Paths and modules that a LoRA can change: the linear and the convolutional ones."""
    for name, module in component.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield name, module


def kohya_name(path: str, *, component: str, unet: Any) -> str:
    """The name under which sd-scripts save the layer for the module `path` of a component.

    Args:
        path: the module's path inside its component.
        component: "unet", "text_encoder" or "text_encoder_2".
        unet: the diffusers UNet of the same pipeline; its configuration tells SDXL from SD 1.x and 2.x.
    """
    sdxl = unet.config.get("addition_embed_type") == "text_time"
    if component == "unet":
        return "lora_unet_" + (_sgm_path(path, unet) if sdxl else path).replace(".", "_")
    prefix = {"text_encoder": "lora_te1_" if sdxl else "lora_te_", "text_encoder_2": "lora_te2_"}[component]
    return prefix + ("text_model." + path if path.startswith(_TOWER) else path).replace(".", "_")


def spellings(path: str, *, component: str, unet: Any) -> set[str]:
    """Every name that a kohya-layout file may use for a module: SDXL files come with either kind of path."""
    names = {kohya_name(path, component=component, unet=unet)}
    if component == "unet":
        names.add("lora_unet_" + path.replace(".", "_"))
    elif component == "text_encoder":
        for name in tuple(names):
            names |= {re.sub("^lora_te1?_", prefix, name) for prefix in ("lora_te_", "lora_te1_")}
    return names


def _sgm_path(path: str, unet: Any) -> str:
    """A diffusers path of SDXL's UNet in the words of Stability's code."""
    if path in _FIXED:
        return _FIXED[path]
    match = _BLOCK.fullmatch(path)
    if match is None:
        return path
    kind, index, rest = match["kind"], int(match["index"]), match["rest"]
    if kind == "resnets":
        rest = _RESNET.get(rest, rest)
    if match["side"] == "mid":
        return f"middle_block.{2 * index if kind == 'resnets' else 2 * index + 1}.{rest}"
    block, stride = int(match["block"]), int(unet.config.layers_per_block) + 1
    if kind == "downsamplers":
        return f"input_blocks.{stride * (block + 1)}.0.op"
    if kind == "upsamplers":
        attends = hasattr(unet.up_blocks[block], "attentions")
        return f"output_blocks.{stride * (block + 1) - 1}.{2 if attends else 1}.{rest}"
    first = 1 if match["side"] == "down" else 0
    side = "input" if match["side"] == "down" else "output"
    return f"{side}_blocks.{stride * block + index + first}.{0 if kind == 'resnets' else 1}.{rest}"
