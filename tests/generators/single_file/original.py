"""A diffusers folder as one checkpoint file in Stability's own naming: the reverse of what is tested."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_VAE = {
    "conv_norm_out": "norm_out",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_q": "mid.attn_1.q",
    "mid_block.attentions.0.to_k": "mid.attn_1.k",
    "mid_block.attentions.0.to_v": "mid.attn_1.v",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
    "conv_shortcut": "nin_shortcut",
}
_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}

Tensors = dict[str, torch.Tensor]


def write_single_file(
    folder: Path, path: Path, *, metadata: dict[str, str] | None = None, sd2: bool = False
) -> Path:
    """Everything that a micro model's folder holds, with one layer a block in the UNet, two in the VAE."""
    tensors = {f"model.diffusion_model.{k}": v for k, v in _unet(_read(folder, "unet")).items()}
    tensors |= {f"first_stage_model.{k}": v for k, v in _vae(_read(folder, "vae")).items()}
    first = {
        f"text_model.{k.removeprefix('text_model.')}": v for k, v in _read(folder, "text_encoder").items()
    }
    if (folder / "text_encoder_2").is_dir():
        tensors |= {f"conditioner.embedders.0.transformer.{k}": v for k, v in first.items()}
        second = _open_clip(_read(folder, "text_encoder_2"))
        tensors |= {f"conditioner.embedders.1.model.{k}": v for k, v in second.items()}
    elif sd2:
        text = _open_clip(_read(folder, "text_encoder"))
        tensors |= {f"cond_stage_model.model.{k}": v for k, v in text.items()}
    else:
        tensors |= {f"cond_stage_model.transformer.{k}": v for k, v in first.items()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    return path


def _read(folder: Path, component: str) -> Tensors:
    (path,) = (folder / component).glob("*.safetensors")
    return load_file(path)


def _renamed(key: str, names: dict[str, str]) -> str:
    for new, old in names.items():
        key = re.sub(rf"(^|\.){re.escape(new)}(\.|$)", rf"\g<1>{old}\g<2>", key)
    return key


def _unet(tensors: Tensors) -> Tensors:
    attending = {m[1] for key in tensors if (m := re.match(r"up_blocks\.(\d+)\.attentions", key))}

    def place(m: re.Match[str]) -> str:
        side, block, kind, layer = m[1], int(m[2]), m[3], int(m[4])
        if kind == "downsamplers":
            return f"input_blocks.{2 * (block + 1)}.0"
        if kind == "upsamplers":
            return f"output_blocks.{2 * block + 1}.{2 if m[2] in attending else 1}"
        start = "input_blocks" if side == "down" else "output_blocks"
        return f"{start}.{2 * block + layer + (side == 'down')}.{0 if kind == 'resnets' else 1}"

    found = {}
    for key, tensor in tensors.items():
        own = _renamed(key, _RESNET) if ".resnets." in key else key
        own = re.sub(r"^(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)", place, own)
        if ".downsamplers." in key:
            own = own.replace(".conv.", ".op.")
        found[_renamed(own, _UNET)] = tensor
    return found


def _vae(tensors: Tensors) -> Tensors:
    blocks = 1 + max(int(m[1]) for key in tensors if (m := re.match(r"decoder\.up_blocks\.(\d+)", key)))
    found = {}
    for key, tensor in tensors.items():
        own = re.sub(r"down_blocks\.(\d+)", r"down.\1", key)
        own = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{blocks - 1 - int(m[1])}", own)
        own = re.sub(r"((?:down|up)\.\d+)\.resnets", r"\1.block", own)
        own = re.sub(r"(down|up)samplers\.0", r"\1sample", own)
        name = _renamed(own, _VAE)
        found[name] = tensor[:, :, None, None] if ".attn_1." in name and tensor.ndim == 2 else tensor
    return found


def _open_clip(tensors: Tensors) -> Tensors:
    found: Tensors = {}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        own = key.removeprefix("text_model.")
        if own == "text_projection.weight":
            found["text_projection"] = tensor.T
        elif m := re.match(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", own):
            parts.setdefault(f"transformer.resblocks.{m[1]}.attn.in_proj_{m[3]}", {})[m[2]] = tensor
        else:
            found[_renamed(own, _OPEN_CLIP)] = tensor
    return found | {name: torch.cat([part[one] for one in "qkv"]) for name, part in parts.items()}
