"""A finished study of red squares, a class of others by hand, and the real images of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from evaluation.features.feature_store import FeatureStore
from generators.bad_images import BadImage, BadImageError
from generators.request import ImageRequest
from promptopt.augmentation.filters import Reference
from promptopt.augmentation.sources import ClassSource, by_hand, read_run
from promptopt.run.prompts import EstimateEntry
from studies.dataset import read_dataset
from tests.promptopt.fakes import SIDE, ColorEncoder, SquareGenerator, category, draw, write_squares

PORTFOLIO = {"a big red square on black": 0.5, "big red on black": 0.3, "red big black": 0.2}
OTHERS = ["a green square", "a blue square"]
SETTINGS = {
    "positives": "red",
    "generator": {"negative_prompt": "text", "steps": 4, "guidance": 2.0, "scheduler": "ink"},
}


def varied(prompt: str, seed: int) -> Image.Image:
    """The square on a ground with clouds of its own, so that no two are near by chance."""
    clouds = np.random.default_rng([seed, 8]).normal(0, 25, (4, 4, 3)).repeat(4, axis=0).repeat(4, axis=1)
    picture = np.asarray(draw(prompt, seed), dtype=np.float64)
    return Image.fromarray(np.clip(picture + clouds, 0, 255).astype(np.uint8))


class WildGenerator(SquareGenerator):
    """Draws squares, but of every ten images one is black, one repeats another, and one is refused."""

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        refused = [r for r in requests if r.seed % 10 == 3]
        if refused:
            made = [BadImage(request=request, fault="not finite") for request in refused]
            raise BadImageError(made, made=len(requests))
        for request in requests:
            self.made.append(request)
            kind = request.seed % 10
            if kind == 1:
                yield Image.new("RGB", (SIDE, SIDE))
            elif kind == 2:
                yield varied(request.prompt, 5)
            else:
                yield varied(request.prompt, request.seed % 2**31)


def write_run(folder: Path, data: Path, **changes: Any) -> Path:
    """A run folder as a finished study leaves it: `prompts.json` and `study.yaml`."""
    folder.mkdir(parents=True)
    study = {
        "name": "reds",
        "aim": "single",
        "category": category(),
        "data": str(data),
        "encoder": "thumbnail",
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    estimate = EstimateEntry(value=1.0, low=0.5, high=1.5, n=9, method="planted", status="ok").model_dump()
    network = {"uri": "squares", "fingerprint": hashlib.sha256(b"squares").hexdigest()}
    prompts = [
        {
            "rank": rank,
            "prompt": prompt,
            "slots": None,
            "weight": weight,
            "tied_with_first": True,
            "behind_first": None,
            "search": {},
            "confirmation": {"score": estimate},
        }
        for rank, (prompt, weight) in enumerate({**PORTFOLIO, "a tiny red square": 0.0}.items(), start=1)
    ]
    content = {
        "study": "reds",
        "category": "red",
        "baseline": {"prompt": "a square", "search": {}, "confirmation": {}},
        "prompts": prompts,
        "tied": [],
        "weights_note": "planted",
        "prompts_in_space": 60,
        "prompts_scored": 60,
        "generator": network,
        "encoder": network,
        "judge": None,
        "data": read_dataset(data).fingerprint,
        "seeds": {"study": 0, "sampler": 0, "search": [], "confirmation": []},
        "settings": SETTINGS,
        "versions": {},
        **changes,
    }
    (folder / "prompts.json").write_text(json.dumps(content))
    return folder


def planted(folder: Path, *, each: int = 30) -> tuple[list[ClassSource], Reference]:
    """Sources of both classes, and the reference that filters are calibrated on."""
    data = folder / "data"
    if not data.exists():
        write_squares(data, each=each)
        write_run(folder / "run", data)
    (red,) = read_run(folder / "run")
    reference = Reference(
        data=read_dataset(data), features=FeatureStore(folder / "features"), encoder=ColorEncoder()
    )
    return [red, by_hand("other", OTHERS, like=red)], reference


def content(folder: Path) -> dict[str, str]:
    """Name -> sha256 of everything in a finished set."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock")
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
