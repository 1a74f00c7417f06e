"""What an augmentation set is, as values: its counts, and the row of each image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from promptopt.augmentation.sources import ClassSource
from promptopt.augmentation.writers import slug

if TYPE_CHECKING:
    from generators.request import ImageRequest

Format = Literal["imagefolder", "webdataset"]


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """One class of a finished set; `removed` counts by the first filter that refused an image."""

    name: str
    label: str
    wanted: int
    kept: int
    tried: int
    removed: Mapping[str, int]

    @property
    def short(self) -> int:
        """Images that are missing."""
        return self.wanted - self.kept


@dataclass(frozen=True, kw_only=True)
class AugmentationSet:
    """What was made. `generated` counts the images made by this call, refused ones included."""

    folder: Path
    format: Format
    classes: tuple[ClassResult, ...]
    generated: int

    @property
    def images(self) -> int:
        """In the set."""
        return sum(one.kept for one in self.classes)

    @property
    def short(self) -> int:
        """Missing in all classes."""
        return sum(one.short for one in self.classes)


def image_row(
    source: ClassSource,
    request: ImageRequest,
    scores: Mapping[str, float | None],
    number: int,
    *,
    category: str,
    label: str,
) -> dict[str, Any]:
    """A line of metadata.jsonl, in the keys of a prepared data set."""
    return {
        "file_name": "",
        "text": request.prompt,
        "category": category,
        "label": label,
        "center": "synthetic",
        "group": f"synthetic:{slug(source.name)}:{number}",
        "pool": "reference",
        "attributes": {
            "synthetic": True,
            "study": source.study or "",
            "negative_prompt": request.negative_prompt,
            "seed": request.seed,
            "steps": request.steps,
            "guidance": request.guidance,
            "scheduler": request.scheduler,
            "width": request.width,
            "height": request.height,
            "dtype": request.dtype,
            "generator": source.address_of(request),
            "fingerprint": request.generator,
            "scores": dict(scores),
        },
    }


def drawn(request: ImageRequest) -> dict[str, Any]:
    """How images are drawn: generator, settings, device and versions."""
    values: dict[str, Any] = json.loads(request.to_json())
    return {key: value for key, value in values.items() if key not in ("prompt", "seed")}
