"""Finished runs without a study: prompts.json, study.yaml and the images in a store, in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from generators.folder import fingerprint
from generators.loading import EMBEDDED
from generators.request import ImageRequest
from generators.store import ImageStore
from promptopt.run.prompts import (
    BaselineEntry,
    EstimateEntry,
    Network,
    PromptEntry,
    PromptList,
    Seeds,
    write_prompts,
)

SETTINGS: dict[str, Any] = {
    "negative_prompt": "",
    "steps": 2,
    "guidance": 3.0,
    "scheduler": "dpmpp_2m",
    "width": 64,
    "height": 64,
    "dtype": "float32",
    "device": "cpu",
    "versions": "diffusers=1",
}
BASELINE = "Generate an image containing a polyp."
WORDS = {"polyps": "polyp", "landmarks": "pylorus", "instruments": "biopsy forceps"}


def estimate(value: float | None, **changes: Any) -> EstimateEntry:
    """With an interval of 0.5 to both sides."""
    content: dict[str, Any] = {
        "value": value,
        "low": None,
        "high": None,
        "n": 8,
        "method": "m",
        "status": "ok",
    }
    if value is None:
        content["status"] = "undefined"
    else:
        content |= {"low": value - 0.5, "high": value + 0.5}
    return EstimateEntry(**content | changes)


def prompt_list(category: str = "polyps", *, study: str | None = None, **changes: Any) -> PromptList:
    """Three prompts, two of them with a weight; the second is tied with the first."""
    word = WORDS.get(category, category)
    texts = [f"a red {word}", f"a pale {word}, sharp", BASELINE]
    entries = [
        PromptEntry(
            rank=rank,
            prompt=text,
            slots=None,
            weight=weight,
            tied_with_first=rank < 3,
            behind_first=estimate(0.1) if rank == 2 else None,
            search={"score": estimate(9.0)},
            confirmation={
                "score": estimate(1.5 - rank),
                "alignment": estimate(3.0, status="unreliable"),
                "kid": estimate(None),
            },
        )
        for rank, text, weight in zip((1, 2, 3), texts, (0.75, 0.25, 0.0), strict=True)
    ]
    content: dict[str, Any] = {
        "study": study or f"{category}-study",
        "category": category,
        "baseline": BaselineEntry(prompt=BASELINE, search={}, confirmation={"score": estimate(0.0)}),
        "prompts": entries,
        "tied": texts[:2],
        "weights_note": "a portfolio",
        "prompts_in_space": 100,
        "prompts_scored": 10,
        "generator": Network(uri="embedded", fingerprint=fingerprint(EMBEDDED)),
        "encoder": Network(uri="../../somewhere/clip", fingerprint="1" * 64),
        "judge": None,
        "data": "2" * 64,
        "seeds": Seeds(study=0, sampler=1, search=[1, 2], confirmation=list(range(100, 108))),
        "settings": {"generator": SETTINGS},
        "versions": {"promptopt": "0"},
    }
    return PromptList(**content | changes)


def write_run(
    root: Path, category: str = "polyps", *, study: str | None = None, stored: bool = True, **changes: Any
) -> Path:
    """runs/<study> and, in store/images, every image of its confirmation."""
    prompts = prompt_list(category, study=study, **changes)
    folder = root / "runs" / prompts.study
    folder.mkdir(parents=True)
    write_prompts(folder / "prompts.json", prompts)
    if stored:
        images = ImageStore(root / "store" / "images")
        for entry in prompts.prompts:
            for seed in prompts.seeds.confirmation:
                request = ImageRequest(
                    generator=prompts.generator.fingerprint, prompt=entry.prompt, seed=seed, **SETTINGS
                )
                rng = np.random.default_rng([seed, *entry.prompt.encode()])
                images.put(request, Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)))
    return folder


def write_three(root: Path) -> list[Path]:
    """One run of every category."""
    return [write_run(root, category) for category in WORDS]
