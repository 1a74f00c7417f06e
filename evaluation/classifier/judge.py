"""The judge: a small convolutional network that reads what a picture shows.

It is no relative of the CLIP encoder that scores pictures during a search (another architecture, other
targets, no text), so it can say whether the search found better pictures or only pictures that the encoder
likes. It answers for pictures like those it was trained on; its card gives its accuracy there, head by head.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from promptopt.base.devices import resolve_device
from promptopt.base.errors import PromptoptError
from promptopt.base.files import new_file, write_json
from promptopt.base.settings import read_json
from promptopt.base.weights import require_same

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
EMBEDDED = Path(__file__).resolve().parent.parent / "embedded" / "judge"

CATEGORY_NAMES = ("polyps", "landmarks", "instruments", "normal")
KIND_NAMES = (
    "polyp",
    "z-line",
    "pylorus",
    "cecum",
    "ileum",
    "biopsy forceps",
    "polyp snare",
    "tube",
    "metal clip",
    "injection needle",
    "normal",
)
COUNT_NAMES = ("0", "1", "2", "3")
LOCATION_NAMES = tuple(
    "center" if (row, column) == ("center", "center") else f"{row}-{column}"
    for row in ("upper", "center", "lower")
    for column in ("left", "center", "right")
)
FLAG_NAMES = ("no", "yes")

SOFTMAX_HEADS = ("category", "kind", "count", "color", "size", "paris")
SIGMOID_HEADS = ("location", "text", "box")
HEADS = (*SOFTMAX_HEADS, *SIGMOID_HEADS)


class JudgeError(PromptoptError, ValueError):
    """A judge folder is missing, damaged, or does not fit its own config."""


class JudgeConfig(BaseModel):
    """What ``config.json`` holds: the shape of the network and the names of its answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["promptopt-judge"] = "promptopt-judge"
    version: Literal[1] = 1
    image_size: int = Field(64, ge=16, le=512)
    widths: tuple[int, int, int, int] = (24, 48, 96, 160)
    hidden: int = Field(128, ge=1)
    names: dict[str, tuple[str, ...]]

    @model_validator(mode="after")
    def _check_names(self) -> "JudgeConfig":
        wanted = {*SOFTMAX_HEADS, "location"}
        if set(self.names) != wanted:
            raise ValueError(f"names has the heads {sorted(self.names)}; it must have {sorted(wanted)}")
        for head, names in self.names.items():
            if not names or len(set(names)) != len(names):
                raise ValueError(f"names.{head} must hold at least one name, and none twice; got {names!r}")
        if min(self.widths) < 1:
            raise ValueError(f"widths must be positive; got {self.widths!r}")
        return self

    def outputs(self, head: str) -> int:
        """How many numbers a head gives."""
        return 1 if head in ("text", "box") else len(self.names[head])


def _normed(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _normed(width, width)
        self.second = _normed(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class JudgeNetwork(nn.Module):
    """A ResNet of three stages under one linear head for each question.

    Takes float pictures (n, 3, s, s) in [0, 1]; gives logits, head -> (n, outputs). The pooled features see
    what is there, the 4 x 4 map that is kept beside them sees where.
    """

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        widths = config.widths
        layers: list[nn.Module] = [_normed(3, widths[0], stride=2), nn.ReLU()]
        for before, after in pairwise(widths):
            layers += [_normed(before, after, stride=2), nn.ReLU(), _Residual(after)]
        self.trunk = nn.Sequential(*layers)
        self.places = nn.Sequential(nn.Conv2d(widths[-1], 32, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4))
        self.hidden = nn.Sequential(nn.Linear(2 * widths[-1] + 32 * 16, config.hidden), nn.ReLU())
        self.heads = nn.ModuleDict({head: nn.Linear(config.hidden, config.outputs(head)) for head in HEADS})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.trunk(images * 4 - 2)
        features = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3)), self.places(x).flatten(1)], dim=1)
        hidden = self.hidden(features)
        return {name: head(hidden) for name, head in self.heads.items()}


Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the judge reads in n pictures; float64 probabilities, columns in the order of ``Judge.names``.

    Rows of ``category, kind, count, color, size, paris`` sum to one. ``location_probabilities`` (n, 9),
    ``text`` and ``box`` (n,) are each a probability of its own: finding at this place, overlaid text, dark
    overlay box.
    """

    category_probabilities: Array
    kind_probabilities: Array
    count_probabilities: Array
    location_probabilities: Array
    color_probabilities: Array
    size_probabilities: Array
    paris_probabilities: Array
    text: Array
    box: Array

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A trained judge. ``fingerprint`` is the sha256 of its two files; ``names`` maps a head to its
    answers."""

    uri: str
    fingerprint: str
    config: JudgeConfig
    network: JudgeNetwork = field(repr=False)
    device: str = "cpu"

    @property
    def names(self) -> dict[str, list[str]]:
        """Head -> names of its columns; ``text`` and ``box`` are yes/no questions with one number."""
        return {
            **{head: list(names) for head, names in self.config.names.items()},
            "text": list(FLAG_NAMES),
            "box": list(FLAG_NAMES),
        }

    def read(self, images: Sequence[Image.Image], *, batch_size: int = 64) -> Reading:
        """Read pictures of any size and mode; they are converted to RGB and resized to the judge's own
        size."""
        parts: list[dict[str, Tensor]] = []
        with torch.inference_mode():
            for start in range(0, len(images), batch_size):
                chunk = images[start : start + batch_size]
                pixels = np.stack([to_pixels(image, self.config.image_size) for image in chunk])
                batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() / 255
                parts.append({head: logits.double().cpu() for head, logits in self.network(batch).items()})
        values: dict[str, Array] = {}
        for head in HEADS:
            empty = torch.empty(0, self.config.outputs(head), dtype=torch.float64)
            logits = torch.cat([part[head] for part in parts]) if parts else empty
            chances = logits.softmax(dim=1) if head in SOFTMAX_HEADS else logits.sigmoid()
            values[head] = chances.numpy()
        return Reading(
            text=values["text"][:, 0],
            box=values["box"][:, 0],
            **{f"{head}_probabilities": values[head] for head in (*SOFTMAX_HEADS, "location")},
        )


def to_pixels(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """A picture as uint8 (size, size, 3), resized with Pillow's antialiased bicubic where it has another
    size."""
    image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.uint8)


def save_judge(folder: str | Path, network: JudgeNetwork, config: JudgeConfig) -> Path:
    """Write ``config.json`` and ``model.safetensors`` (float16) into a folder and return it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in network.state_dict().items()
    }
    with new_file(folder / WEIGHTS_FILE) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
    write_json(folder / CONFIG_FILE, config.model_dump(mode="json"), indent=2)
    return folder


def load_judge(uri: str | Path = "embedded", *, device: str = "auto") -> Judge:
    """Load the judge that ships (``"embedded"``) or one from a folder that :func:`save_judge` wrote.

    The weights lie on disk in float16 and are used in float32. Raises JudgeError naming the file and the
    fault.
    """
    folder = EMBEDDED if str(uri) == "embedded" else Path(uri)
    config_file, weights_file = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    for file in (config_file, weights_file):
        if not file.is_file():
            raise JudgeError(
                f"{file}: no such file; a judge is 'embedded' or a folder with {CONFIG_FILE} and "
                f"{WEIGHTS_FILE}, as 'promptopt train judge' writes it"
            )
    config = read_json(JudgeConfig, config_file, error=JudgeError, remedy="Copy or train it again.")
    try:
        tensors = load_file(weights_file)
    except (SafetensorError, OSError) as error:
        raise JudgeError(f"{weights_file}: damaged or cut short ({error}); copy or train it again") from error
    network = JudgeNetwork(config)
    _fill(network, tensors, weights_file)
    place = resolve_device(device)
    digest = hashlib.sha256(config_file.read_bytes())
    digest.update(weights_file.read_bytes())
    return Judge(
        uri=str(uri),
        fingerprint=digest.hexdigest(),
        config=config,
        network=network.eval().requires_grad_(False).to(place),
        device=str(place),
    )


def _fill(network: JudgeNetwork, tensors: Mapping[str, Tensor], file: Path) -> None:
    wanted = network.state_dict()
    require_same(
        wanted,
        tensors,
        file,
        error=JudgeError,
        remedy=f"Copy or train it again; {CONFIG_FILE} asks for others.",
    )
    for key in wanted:
        if not torch.isfinite(tensors[key]).all():
            raise JudgeError(
                f"{file}: tensor {key!r} holds values that are not finite; train the judge again"
            )
    network.load_state_dict({key: value.to(wanted[key].dtype) for key, value in tensors.items()})
