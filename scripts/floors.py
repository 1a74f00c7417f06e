#!/usr/bin/env python
"""Writes docs/floors.svg: the floors of the house, as the import-linter contract in pyproject.toml has them.

python scripts/floors.py
"""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "floors.svg"
WIDTH, HEIGHT, GAP, SIDE = 860, 34, 6, 12
COLORS = {"promptopt": "#00796b", "other": "#455a64", "base": "#6d4c41"}
WHAT = {
    "promptopt.cli": "commands and terminal output",
    "promptopt.testing": "conformance suites",
    "promptopt.samplers": "for Optuna studies of your own",
    "promptopt.publishing": "runs in a team's database",
    "promptopt.sweep": "many studies",
    "promptopt.web": "dashboard, local server",
    "promptopt.doctor": "what this machine can do",
    "promptopt.augmentation": "sets, filters, proof",
    "promptopt.transfer": "winners elsewhere",
    "promptopt.challenge": "submission, check",
    "promptopt.study": "one study end to end, its report, the Python API",
    "promptopt.review": "experts' preferences, blinded sheets",
    "promptopt.export": "lists of prompts, paper tables",
    "promptopt.comparison": "generators side by side",
    "promptopt.portfolio": "mixtures of prompts",
    "promptopt.scoring": "images to terms and score",
    "promptopt.synthesis": "images for a list",
    "promptopt.search": "what to measure next: the model over slots, racing, samplers",
    "promptopt.run": "what lies in a run folder",
    "promptopt.space": "which prompts exist: the template language",
    "promptopt.config": "the study file",
    "promptopt.formatting": "numbers, tables, LaTeX, grids",
    "generators": "Stable Diffusion, adapters, training, store",
    "evaluation": "encoders, metrics, classifiers, intervals",
    "studies": "categories, data sets, the phantom; no torch",
    "promptopt.base": "errors, files, seeds, plug-ins: the ground for all",
}


def floors() -> list[list[str]]:
    """Rooms of each floor, from the top."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = document["tool"]["importlinter"]["contracts"][0]
    return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]


def svg() -> str:
    """The picture: a row for each floor, its rooms side by side."""
    rows = floors()
    height = 2 * SIDE + len(rows) * (HEIGHT + GAP) - GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" role="img" aria-label="The floors, from cli down to base">'
    ]
    for level, rooms in enumerate(rows):
        y = SIDE + level * (HEIGHT + GAP)
        width = (WIDTH - 2 * SIDE - GAP * (len(rooms) - 1)) / len(rooms)
        for place, room in enumerate(rooms):
            parts += _box(room, SIDE + place * (width + GAP), y, width)
    return "\n".join([*parts, "</svg>", ""])


def _box(room: str, x: float, y: float, width: float) -> list[str]:
    kind = "base" if room == "promptopt.base" else room.split(".")[0]
    name = room.removeprefix("promptopt.") if room != "promptopt.base" else "promptopt.base"
    return [
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{HEIGHT}" rx="4" '
        f'fill="{COLORS.get(kind, COLORS["other"])}"/>',
        f'<text x="{x + 10:.1f}" y="{y + 22}" font-size="13" fill="#fff">'
        f'<tspan font-weight="700">{escape(name)}</tspan>'
        f'<tspan dx="8" font-size="11" fill="#e0f2f1">{escape(WHAT.get(room, ""))}</tspan></text>',
    ]


if __name__ == "__main__":
    TARGET.write_text(svg(), encoding="utf-8")
    print(TARGET)
