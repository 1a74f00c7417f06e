"""The best-prompt list: what several studies found, by category."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from promptopt.base.settings import read_json
from promptopt.run.errors import ExportError
from promptopt.run.finished import FinishedRun
from promptopt.run.prompts import EstimateEntry, PromptEntry, PromptList
from studies.category import CATEGORIES

_OWN = (
    "rank",
    "prompt",
    "negative_prompt",
    "generation_parameters",
    "slots",
    "weight",
    "tied_with_first",
    "search",
)
SET = "set"  # method of a portfolio that is a set
Scalar = str | int | float | bool


class BestList(BaseModel):
    """best-prompts.json. Each category has its studies, each of them whole: prompts with weights, estimates
    and intervals, the tied set, the baseline, settings, generator fingerprint and seeds (see `PromptList`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["promptopt-best-prompts"] = "promptopt-best-prompts"
    version: Literal[2] = 2
    categories: dict[str, list[PromptList]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt of a study as the tables show it.

    Attributes:
        rank: None for a baseline that was not confirmed beside the others, and for a set as a whole.
        estimates: confirmed metrics, then whatever else of the entry has an interval, by name.
        scalars: the verdict beside the baseline, and further single values of the entry, by name.
    """

    rank: int | None
    prompt: str
    negative_prompt: str | None
    generation_parameters: Mapping[str, Any]
    weight: float
    tied: bool
    is_baseline: bool
    estimates: Mapping[str, EstimateEntry]
    scalars: Mapping[str, Scalar]


def best_list(runs: Sequence[FinishedRun]) -> BestList:
    """The runs' lists by category: the challenge's own categories first, in its order."""
    found: dict[str, list[PromptList]] = {}
    for run in runs:
        found.setdefault(run.prompts.category, []).append(run.prompts)
    order = sorted(found, key=lambda c: (CATEGORIES.index(c) if c in CATEGORIES else len(CATEGORIES), c))
    return BestList(categories={category: found[category] for category in order})


def to_json(best: BestList) -> str:
    """The file's text."""
    return json.dumps(best.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_best_list(path: str | Path) -> BestList:
    """Read and check a best-prompts.json.

    Raises ExportError: missing, not JSON, or not in this format.
    """
    return read_json(
        BestList,
        path,
        error=ExportError,
        remedy="Check the path, or write it anew with `promptopt export list`.",
    )


def rows(study: PromptList) -> list[Row]:
    """The prompts in order of rank, and the baseline at the end where it is not among them.

    A set was confirmed as a whole, so its estimates are in a row of their own, and the baseline's after it.
    """
    found = [_row(entry, study.verdict(entry)) for entry in study.prompts]
    whole = study.portfolio is not None and study.portfolio.method == SET
    if study.portfolio is not None and whole:
        found = [replace(row, is_baseline=False, scalars={}) for row in found]
        estimates = study.portfolio.compared[SET].estimates
        found.append(
            Row(
                rank=None,
                prompt="images of all these prompts, by their weights",
                negative_prompt=None,
                generation_parameters={},
                weight=0.0,
                tied=False,
                is_baseline=False,
                estimates=estimates,
                scalars={},
            )
        )
    if whole or not any(row.is_baseline for row in found):
        found.append(
            Row(
                rank=None,
                prompt=study.baseline.prompt,
                negative_prompt=None,
                generation_parameters={},
                weight=0.0,
                tied=study.baseline.prompt in study.tied,
                is_baseline=True,
                estimates=study.baseline.confirmation,
                scalars={},
            )
        )
    return found


def _row(entry: PromptEntry, verdict: str | None) -> Row:
    """All that the entry has; fields of later versions show up by their kind."""
    estimates = dict(entry.confirmation)
    scalars: dict[str, Scalar] = {} if verdict is None else {"verdict": verdict}
    for name in type(entry).model_fields:
        value = getattr(entry, name)
        if name in _OWN or name == "confirmation":
            continue
        if isinstance(value, EstimateEntry):
            estimates[name] = value
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                if isinstance(inner, EstimateEntry):
                    estimates[f"{name}/{key}"] = inner
                elif isinstance(inner, Scalar):
                    scalars[f"{name}/{key}"] = inner
        elif isinstance(value, Scalar):
            scalars[name] = value
    return Row(
        rank=entry.rank,
        prompt=entry.prompt,
        negative_prompt=entry.negative_prompt,
        generation_parameters=entry.generation_parameters or {},
        weight=entry.weight,
        tied=entry.tied_with_first,
        is_baseline=verdict is None,
        estimates=estimates,
        scalars=scalars,
    )
