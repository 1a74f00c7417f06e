"""A generator's text encoder from a CLIP, as Stable Diffusion's own is: words mean something at once."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from generators.stable_diffusion.networks import TOWER
from promptopt.base.errors import ArgumentError, PromptoptError
from promptopt.base.weights import require_all

_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_TOWER = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.")
_ENDS = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def read_text_tower(folder: Path) -> tuple[CLIPTextModel, CLIPTokenizer]:
    """The text tower of a folder in open_clip's format, as transformers' model with the folder's tokenizer.

    The hidden states are the tower's own before the projection to the joint space. Raises ValueError naming
    the folder when it holds no plain CLIP with a tokenizer.
    """
    file = folder / "open_clip_config.json"
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), folder / _WEIGHTS[0])
    try:
        model = json.loads(file.read_text(encoding="utf-8"))["model_cfg"]
        tensors = load_file(weights)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        config = _config(model, tokenizer)
        network = CLIPTextModel(config)
        network.load_state_dict(_renamed(tensors, config, network, file=weights), strict=True)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError, PromptoptError) as error:
        raise ArgumentError(
            f"{folder}: no text tower can be read from it ({type(error).__name__}: {error}); "
            "give a CLIP folder that 'promptopt train clip' wrote with a tokenizer of its own"
        ) from error
    return network.float().eval(), tokenizer


def _config(model: dict[str, object], tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    text = model["text_cfg"]
    if not isinstance(text, dict) or "hf_model_name" in text:
        raise ArgumentError("its text tower is not CLIP's own transformer")
    return CLIPTextConfig(
        vocab_size=text["vocab_size"],
        hidden_size=text["width"],
        intermediate_size=int(text["width"] * text.get("mlp_ratio", 4)),
        num_hidden_layers=text["layers"],
        num_attention_heads=text["heads"],
        max_position_embeddings=text["context_length"],
        hidden_act="quick_gelu" if model.get("quick_gelu") else "gelu",
        projection_dim=model["embed_dim"],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _renamed(
    tensors: dict[str, torch.Tensor], config: CLIPTextConfig, network: CLIPTextModel, *, file: Path
) -> dict[str, torch.Tensor]:
    """open_clip's names to transformers'; query, key and value are one matrix there and three here."""
    found = {ours: tensors[theirs] for theirs, ours in _ENDS.items()}
    used = set(_ENDS)
    for layer in range(config.num_hidden_layers):
        source, target = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            for theirs, ours in _BLOCK.items():
                used.add(name := f"{source}.{theirs}.{kind}")
                found[f"{target}.{ours}.{kind}"] = tensors[name]
            used.add(name := f"{source}.attn.in_proj_{kind}")
            parts = tensors[name].chunk(3)
            for ours, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                found[f"{target}.self_attn.{ours}.{kind}"] = part
    require_all(file, unexpected={name for name in tensors if name.startswith(_TOWER)} - used)
    # transformers 4 calls the tower "text_model." inside the model; 5 has no prefix
    prefix = TOWER if any(name.startswith(TOWER) for name in network.state_dict()) else ""
    return {prefix + name: tensor.float().contiguous() for name, tensor in found.items()}
