"""A study of sets over colored squares: two classes, milliseconds an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from promptopt.study.api import Study
from studies.dataset import Record, write_metadata
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, draw

PLAIN = {"red": "a red square", "blue": "a blue square"}
"""Baselines: size and ground come from the seed."""
SHIFTED = {
    "red": ("a big red square on white", "a small red square on white"),
    "blue": ("a big blue square on black",),
}
"""Captions of real images that the baselines seldom draw."""


def write_real(folder: Path, texts: dict[str, tuple[str, ...]], *, each: int = 24, test: int = 40) -> Path:
    """A prepared data set of two labels; `each` real images a label in reference and validation together."""
    (folder / "images").mkdir(parents=True)
    records = []
    seed = 100_000
    for label, captions in texts.items():
        for pool, count in (
            ("reference", each * 2 // 3),
            ("validation", each - each * 2 // 3),
            ("test", test),
        ):
            for i in range(count):
                seed += 1
                name, text = f"images/{label}-{pool}-{i:03}.png", captions[i % len(captions)]
                draw(text, seed).save(folder / name)
                records.append(
                    Record(
                        file_name=name,
                        text=(text,),
                        category=label,
                        label=label,
                        center="a",
                        group=f"{label}-{pool}-{i}",
                        pool=pool,  # type: ignore[arg-type]
                    )
                )
    write_metadata(folder, records)
    return folder


def square_category(label: str) -> dict[str, Any]:
    """12 prompts: sizes and grounds of one color."""
    other = {"red": "blue", "blue": "red"}[label]
    return {
        "name": label,
        "title": f"{label} squares",
        "template": f"a {{|big|small|tiny}} {label} square {{|on black|on white}}",
        "wildcards": {},
        "texts": [f"a {label} square"],
        "distractors": {other: [f"a {other} square"]},
        "baseline": PLAIN[label],
    }


def set_study(data: Path, **changes: Any) -> dict[str, Any]:
    """Content of a study file."""
    content: dict[str, Any] = {
        "name": "squares",
        "classes": {label: {"category": square_category(label)} for label in PLAIN},
        "data": str(data),
        "generator": {"uri": "squares"},
        "encoder": "colors",
        "set": {"budget": 64, "images": 4, "prompts": 4, "tolerance": None},
        "confirm": {"images": 40, "classifier": None},
        "search": {"proposals_per_step": 3},
        "seed": 3,
    }
    return content | changes


def square_study(root: Path, data: Path, **changes: Any) -> Study:
    """The same as a `Study`; its generator counts what it makes."""
    return Study(
        set_study(data, **changes),
        generator=SquareGenerator(),
        encoder=ColorEncoder(),
        runs=root / "runs",
        store=root / "store",
    )
