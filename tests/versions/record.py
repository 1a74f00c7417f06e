"""What the networks that ship give, measured; the file that every version of the libraries is compared with.

python -m tests.versions.record              writes recorded.json, the pictures and the adapter anew
python -m tests.versions.record --installed  prints the versions of the libraries
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
RECORDED, ADAPTER = HERE / "recorded.json", HERE / "adapter"
PROMPTS = ("a sessile polyp on the left", "three polyps", "a normal z-line, close")
LIBRARIES = (
    "torch", "torchvision", "transformers", "diffusers", "peft", "accelerate", "open_clip_torch", "timm",
    "tokenizers", "safetensors", "huggingface_hub", "numpy", "scipy", "scikit-learn", "pillow", "optuna",
    "pydantic",
)  # fmt: skip


def picture(row: int) -> Path:
    """The recorded picture of a prompt."""
    return HERE / f"picture-{row}.png"


def pictures(uri: str = "embedded") -> tuple[str, list[Image.Image]]:
    """The generator's fingerprint, and its images."""
    from generators import load

    generator = load(uri, device="cpu", dtype="float32", batch_size=3, compile="off")
    requests = [generator.request(prompt, 11 + row) for row, prompt in enumerate(PROMPTS)]
    return generator.fingerprint, list(generator.generate(requests))


def measures() -> dict[str, Any]:
    """Fingerprints, features of the recorded pictures and of the prompts, the judge's reading of them."""
    from evaluation.classifier.judge import load_judge
    from evaluation.encoders.load import load_encoder

    encoder, judge = load_encoder("embedded", device="cpu"), load_judge("embedded", device="cpu")
    images = [Image.open(picture(row)).convert("RGB") for row in range(len(PROMPTS))]
    reading = judge.read(images)
    return {
        "fingerprints": {"encoder": encoder.fingerprint, "judge": judge.fingerprint},
        "image_features": _numbers(encoder.encode_images(images)),
        "text_features": _numbers(encoder.encode_texts(PROMPTS)),
        "judge_colors": _numbers(reading.color_probabilities),
    }


def adapted_states() -> list[list[float]]:
    """Hidden states of the embedded text encoder under the recorded adapter, as PEFT itself reads it."""
    import torch
    from peft import PeftModel
    from transformers import CLIPTextModel

    from generators.loading import EMBEDDED

    base = CLIPTextModel.from_pretrained(EMBEDDED / "text_encoder").float()
    adapted = PeftModel.from_pretrained(base, str(ADAPTER / "text_encoder")).eval()
    with torch.no_grad():
        states = adapted(torch.arange(100, 116)[None]).last_hidden_state[0, :, :8]
    return _numbers(states.numpy())


def write() -> None:
    """Measure with what is installed, and keep it."""
    fingerprint, images = pictures()
    for row, image in enumerate(images):
        image.save(picture(row))
    _write_adapter()
    keep = {
        "libraries": dict(installed()),
        "generator": fingerprint,
        **measures(),
        "adapted_states": adapted_states(),
    }
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in keep.items())
    RECORDED.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def installed() -> Iterator[tuple[str, str]]:
    """Each library with its version."""
    for name in LIBRARIES:
        yield name, version(name)


def _write_adapter() -> None:
    import torch
    from peft import LoraConfig

    from generators.loading import EMBEDDED
    from generators.training.lora_export import save_lora
    from generators.training.parts import load_parts

    parts = load_parts(EMBEDDED)
    draw = torch.Generator().manual_seed(5)
    for part, names in (
        (parts.unet, ["mid_block.attentions.0.proj_in"]),
        (parts.text_encoder, ["q_proj", "fc1"]),
    ):
        part.add_adapter(LoraConfig(r=1, lora_alpha=2, target_modules=names))
        for name, weight in part.named_parameters():
            if "lora_" in name:
                weight.data = 0.2 * torch.randn(weight.shape, generator=draw)
    save_lora(
        ADAPTER,
        unet=parts.unet,
        text_encoder=parts.text_encoder,
        card="# An adapter for tests",
        dtype="float16",
    )
    (ADAPTER / "kohya.safetensors").unlink()


def _numbers(values: Any) -> list[list[float]]:
    rows: list[list[float]] = np.asarray(values, dtype=np.float64).round(6).tolist()
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--installed", action="store_true")
    if parser.parse_args().installed:
        print(", ".join(f"{name} {number}" for name, number in installed()))  # noqa: T201
    else:
        write()
