"""What fits into a machine's memory, and how long it takes at best.

The rules, in bytes, are stated so that they can be checked; they err on the side of asking for too much, and
have not been measured on a GPU:

- Images: all parameters at 2 bytes on a GPU (float16) and 4 on a CPU (float32; so does SDXL's autoencoder on
  a GPU, which overflows in float16), plus 1.6 thousand values a pixel for decoding one image (5 feature maps
  of 256 channels and full size, and what cuDNN works with), plus 0.8 GB for the libraries. A batch that does
  not fit is halved down to one image, so one image is what must fit.
- Training in full: 20 bytes for every trained parameter (float32 weight, gradient, two moments of Adam,
  moving average), 2 for its copy in bfloat16, and 400 bytes a pixel for every image of a pass (with gradient
  checkpointing). With adapters: 4 bytes for every parameter of the UNet and the same for the images.
- Time: floating-point operations of the UNet's passes (two a step with guidance; counted with torch's
  FlopCounterMode on networks of the published shape) over what a matrix product reaches on this machine. Real
  networks reach a third to two thirds of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

GB = 1e9
_LIBRARIES = 0.8 * GB
_VALUES_A_PIXEL = 1600
_TRAINED = 22
_FROZEN = 4
_ACTIVATIONS_A_PIXEL = 400

Kind = Literal["images", "full", "adapters"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Something that a user may want to run.

    Attributes:
        parameters: of all networks.
        trained_in: parameters of the UNet, the network that is trained.
        side: of the images, in pixels.
        pass_: TFLOP of one pass of the UNet for one image.
        rows: images of one pass.
        steps: of the sampler.
        float32_decoder: whether the autoencoder needs float32 on a GPU too.
    """

    name: str
    kind: Kind
    parameters: float
    trained_in: float
    side: int
    pass_: float
    rows: int = 1
    steps: int = 25
    float32_decoder: bool = False


@dataclass(frozen=True)
class Device:
    """Where things run. `memory` is what one process can have, in bytes; `speed` in TFLOP/s."""

    kind: Literal["cpu", "cuda"]
    name: str
    memory: float
    speed: float


@dataclass(frozen=True)
class Verdict:
    """A task on a device. `seconds` is the least time that a `unit` can take, an image or a training step."""

    task: str
    device: str
    needed_gb: float
    there_gb: float
    fits: bool
    seconds: float
    unit: str
    remedy: str

    @property
    def text(self) -> str:
        """For people."""
        fits = "fits" if self.fits else "does not fit"
        what = f"{fits}: needs about {self.needed_gb:.1f} GB, {self.there_gb:.1f} GB there"
        return what + (f"; {_duration(self.seconds)} {self.unit} at best" if self.fits else "")


_SD15, _SDXL = 859.5e6, 2567.5e6
TASKS = (
    Task(
        name="embedded generator, 64 px",
        kind="images",
        parameters=6.8e6,
        trained_in=5.6e6,
        side=64,
        pass_=0.000544,
        steps=12,
    ),
    Task(name="SD 1.5, 512 px", kind="images", parameters=1066e6, trained_in=_SD15, side=512, pass_=0.803),
    Task(name="SD 2.1, 512 px", kind="images", parameters=1290e6, trained_in=865.9e6, side=512, pass_=0.804),
    Task(
        name="SDXL, 1024 px",
        kind="images",
        parameters=3469e6,
        trained_in=_SDXL,
        side=1024,
        pass_=6.761,
        float32_decoder=True,
    ),
    Task(
        name="training SD 1.5 in full (recipe sd15)",
        kind="full",
        parameters=1066e6,
        trained_in=_SD15,
        side=512,
        pass_=0.803,
        rows=16,
    ),
    Task(
        name="DreamBooth with LoRA on SD 1.5 (recipe dreambooth-lora)",
        kind="adapters",
        parameters=1066e6,
        trained_in=_SD15,
        side=512,
        pass_=0.803,
        rows=8,
    ),
    Task(
        name="LoRA on SDXL (recipe sdxl-lora)",
        kind="adapters",
        parameters=3469e6,
        trained_in=_SDXL,
        side=1024,
        pass_=6.761,
        rows=8,
    ),
)


def bytes_needed(task: Task, kind: Literal["cpu", "cuda"]) -> float:
    """By the rules above."""
    pixels = task.side**2
    if task.kind == "images":
        width = 2 if kind == "cuda" else 4
        decoder = 4 if task.float32_decoder else width
        return task.parameters * width + pixels * _VALUES_A_PIXEL * decoder + _LIBRARIES
    of_networks = task.trained_in * (_TRAINED if task.kind == "full" else _FROZEN)
    return of_networks + task.rows * pixels * _ACTIVATIONS_A_PIXEL + _LIBRARIES


def judge_tasks(device: Device, tasks: Sequence[Task] = TASKS) -> list[Verdict]:
    """What of the tasks fits on a device, and what to do about the rest."""
    found = []
    for task in tasks:
        needed = bytes_needed(task, device.kind)
        fits = needed <= device.memory
        # of training, the way back costs twice as much as the way there
        passes = 2 * task.steps if task.kind == "images" else 3 * task.rows
        seconds = passes * task.pass_ / device.speed
        found.append(
            Verdict(
                task=task.name,
                device=device.name,
                needed_gb=needed / GB,
                there_gb=device.memory / GB,
                fits=fits,
                seconds=seconds,
                unit="an image" if task.kind == "images" else "a step",
                remedy=_remedy(task, fits, seconds),
            )
        )
    return found


def _remedy(task: Task, fits: bool, seconds: float) -> str:
    if not fits and task.kind == "images":
        return "use a GPU with more memory, or a smaller model; the embedded generator runs anywhere"
    if not fits and task.kind == "full":
        return "train adapters instead (--set lora.rank=16), or --set training.batch_size=2"
    if not fits:
        return "--set training.batch_size=1 with more accumulation, or a GPU with more memory"
    if task.kind == "images" and seconds > 10:
        return f"a study of 40 prompts, 16 images each, takes {_duration(640 * seconds)} or more: use a GPU"
    if task.kind != "images" and seconds > 20:
        return f"1,000 steps take {_duration(1000 * seconds)} or more: use a GPU"
    return ""


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds:.2g} s"
    for unit, size in (("days", 172_800), ("h", 7200), ("min", 120)):
        if seconds >= size:
            return f"{seconds / {'days': 86_400, 'h': 3600, 'min': 60}[unit]:.0f} {unit}"
    return f"{seconds:.0f} s"
