"""The two sections of the 2025 edition's script: who submits and which model, and the images.

The images are those that `promptopt synthesize --edition gi-2025` makes of the same prompts with the same
seed: the same seeds, noise from the CPU in float32, the study's own sampler and settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from generators.stable_diffusion.schedulers import recipe

SCRIPT, REQUIREMENTS = "submission_task2.py", "requirements.txt"
PACKAGES = (
    "accelerate>=1.10",
    "diffusers>=0.36",
    "numpy>=1.26",
    "pillow>=11",
    "requests",
    "safetensors>=0.5",
)
MORE = ("torch>=2.6", "transformers>=4.56")
PEFT = "peft>=0.17"
REWRITTEN = ("SimulaMet/Kvasir-VQA-test", '"validation"', "huggingface.co/datasets")
"""The organizers' evaluation replaces the first two in the whole script, and drops lines with the third."""


@dataclass(frozen=True, kw_only=True)
class Lora:
    """An adapter as diffusers fetches it from the hub."""

    repository: str
    revision: str | None
    subfolder: str | None
    weight_name: str | None
    scale: float


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What the script draws with."""

    repository: str
    revision: str | None
    adapters: Sequence[Lora]
    negative_prompt: str
    steps: int
    guidance: float
    scheduler: str
    width: int
    height: int
    seed: int
    batch_size: int


def first_section(info: Mapping[str, object], drawing: Drawing) -> str:
    """SUBMISSION_INFO, and the model as `hf_pipe`."""
    lines = ["SUBMISSION_INFO = {"]
    lines += [f"    {literal(key)}: {literal(value)}," for key, value in info.items()]
    lines += ["}", ""]
    chosen = recipe(drawing.scheduler)
    lines.append("import hashlib")
    if chosen is not None:
        lines.append(f"from diffusers import {chosen[0]}")
    lines += ["from PIL.PngImagePlugin import PngInfo", ""]
    where = _arguments(drawing.repository, revision=drawing.revision, use_safetensors=True)
    lines.append('precision = torch.float16 if device == "cuda" else torch.float32')
    lines.append(f"hf_pipe = DiffusionPipeline.from_pretrained({where}, torch_dtype=precision).to(device)")
    for number, lora in enumerate(drawing.adapters, start=1):
        where = _arguments(
            lora.repository,
            revision=lora.revision,
            subfolder=lora.subfolder,
            weight_name=lora.weight_name,
            adapter_name=f"lora_{number}",
        )
        lines.append(f"hf_pipe.load_lora_weights({where})")
    if drawing.adapters:
        names = [f"lora_{number}" for number in range(1, len(drawing.adapters) + 1)]
        scales = [lora.scale for lora in drawing.adapters]
        lines += [f"hf_pipe.set_adapters({names!r}, {scales!r})"]
    if chosen is not None:
        given = "".join(f", {key}={value!r}" for key, value in chosen[1].items())
        lines.append(f"hf_pipe.scheduler = {chosen[0]}.from_config(hf_pipe.scheduler.config{given})")
    lines += [
        'if getattr(hf_pipe, "safety_checker", None) is not None:',
        "    hf_pipe.safety_checker = None  # it takes endoscopy for nudity and paints it black",
        "hf_pipe.set_progress_bar_config(disable=True)",
    ]
    return "\n".join(lines) + "\n"


def second_section(drawing: Drawing) -> str:
    """Ten images of every prompt, each from its own seed."""
    return f'''\
def image_seed(prompt, image):
    """The same as in `promptopt synthesize --seed {drawing.seed}`: it depends on nothing else."""
    digest = hashlib.sha256(f"promptopt synthesize {drawing.seed} {{prompt}} {{image}}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


label = PngInfo()
label.add_text("synthetic", "true")
batch_size = {drawing.batch_size}  # images at a time
height, width = {drawing.height}, {drawing.width}
factor = hf_pipe.vae_scale_factor
shape = (1, hf_pipe.unet.config.in_channels, height // factor, width // factor)
jobs = [(p, i) for p in range(1, len(test_prompts) + 1) for i in range(1, num_per_prompt + 1)]
for start in tqdm(range(0, len(jobs), batch_size)):
    batch = jobs[start:start + batch_size]
    sources = [torch.Generator().manual_seed(image_seed(p, i)) for p, i in batch]
    noise = torch.cat([torch.randn(shape, generator=source, dtype=torch.float32) for source in sources])
    images = hf_pipe(
        prompt=[test_prompts[p - 1].strip() for p, i in batch],
        negative_prompt=[{literal(drawing.negative_prompt)}] * len(batch),
        num_inference_steps={drawing.steps},
        guidance_scale={drawing.guidance!r},
        height=height,
        width=width,
        latents=noise.to(device, hf_pipe.unet.dtype),
        generator=sources,
    ).images
    for (p, i), image in zip(batch, images):
        image.save(f"{{output_folder}}/prompt{{p:04d}}_img{{i:04d}}.png", pnginfo=label)
'''


def requirements(drawing: Drawing) -> str:
    """requirements.txt; the rest of the script's needs is installed by the organizers."""
    packages = [*PACKAGES, *MORE, *([PEFT] if drawing.adapters else [])]
    return "".join(f"{package}\n" for package in sorted(packages))


def literal(value: Any) -> str:
    """A value as Python on one line that the organizers' evaluation leaves as it is (see REWRITTEN)."""
    text = repr(value)
    for reserved in REWRITTEN:
        for written in {reserved, reserved.replace('"', '\\"')}:
            if written in text:
                text = text.replace(
                    written, "".join(f"\\x{ord(c):02x}" if c in '"/' else c for c in reserved)
                )
    return text


def _arguments(first: str, **named: object) -> str:
    given = [f"{key}={value!r}" for key, value in named.items() if value is not None]
    return ", ".join([repr(first), *given])
