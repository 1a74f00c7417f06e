"""How many prompts a step of the search proposes, where the study leaves it to the engine's width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from promptopt.config.study_file import StudyConfig

MOST = 16
"""Prompts a step at most: more were not measured, and so many cost some regret (docs/search.md)."""


def with_proposals(config: StudyConfig, *, folder: Path, on: str) -> StudyConfig:
    """The study with a number for `search.proposals_per_step: auto`: a prompt for each worker, 2 to 16.

    A run that was begun keeps the number that its study.yaml has, whoever makes the images now.

    Args:
        folder: of the run.
        on: where images are made, as `generators.making.place.Place` reads it.

    Raises:
        GeneratorError: no such place.

    Example:
        >>> from promptopt.config.study_file import StudyConfig
        >>> search = {"proposals_per_step": "auto"}
        >>> config = StudyConfig(name="a", aim="single", category="polyps", search=search)
        >>> for place in ("here", "processes:8", "ray?gpus=64"):
        ...     print(with_proposals(config, folder=Path("none"), on=place).search.proposals_per_step)
        2
        8
        16
    """
    from generators.making.place import Place
    from promptopt.run.folder import STUDY

    if config.search.proposals_per_step != "auto":
        return config
    number = min(MOST, max(config.search.proposals, Place.parse(on).count))
    begun = folder / STUDY
    if begun.is_file():
        content: Any = yaml.safe_load(begun.read_text(encoding="utf-8"))
        search = content.get("search") if isinstance(content, dict) else None
        earlier = search.get("proposals_per_step") if isinstance(search, dict) else None
        number = earlier if isinstance(earlier, int) else number
    return config.override({"search.proposals_per_step": number})
