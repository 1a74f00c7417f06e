"""The tables of a run as CSV: one row a prompt, value, low, high, n and status of every metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.estimate import Estimate
from promptopt.base.files import write_text
from promptopt.run.trials import TrialRow
from promptopt.scoring.confirm import Confirmed
from promptopt.search.model.effects import SlotEffects

_PARTS = ("value", "low", "high", "n", "status")


def write_trials(path: Path, rows: Sequence[TrialRow]) -> Path:
    """Every trial in order, with its slots (columns `slot:...`).

    A row that `continues` another has the same prompt on more images.
    """
    metrics = [{"score": row.score, **row.estimates} for row in rows]
    slots = list(dict.fromkeys(name for row in rows for name in row.choice))
    header = ["trial", "prompt", "images", "duplicate_of", "continues", "eliminated_by", "violations"]
    header += [f"slot:{name}" for name in slots]
    heads: list[list[object]] = [
        [row.number, row.candidate, row.images, _or_empty(row.duplicate_of), _or_empty(row.continues)]
        + [_or_empty(row.eliminated_by), "; ".join(row.violations)]
        + [row.choice.get(name, "") for name in slots]
        for row in rows
    ]
    return _write(path, header, heads, metrics)


def write_confirmation(path: Path, confirmed: Sequence[Confirmed]) -> Path:
    """The confirmed prompts in order, the baseline among them."""
    header = ["rank", "prompt", "tied_with_first", "better_than_baseline", "p_value", "contradicted_by"]
    heads: list[list[object]] = [
        [c.rank, c.candidate, c.tied, c.better, _cell(c.p_value), _or_empty(c.contradicted_by)]
        for c in confirmed
    ]
    metrics: list[Mapping[str, Estimate]] = [_all_estimates(c) for c in confirmed]
    return _write(path, header, heads, metrics)


def _all_estimates(c: Confirmed) -> dict[str, Estimate]:
    found = {"score": c.score.estimate}
    found |= {name: one for name, one in (("shrunken", c.shrunken), ("optimism", c.optimism)) if one}
    found |= {f"{name}:gain": said.gain for name, said in c.independent_checks.items()}
    return found | dict(c.measurement.estimates)


def _or_empty(value: object) -> object:
    return "" if value is None else value


def write_effects(path: Path, effects: SlotEffects) -> Path:
    """Effects of the options, the best of each slot first, then the pairs of options worth naming."""
    names = dict.fromkeys(effect.slot for effect in effects.effects)
    heads: list[list[object]] = []
    found: list[Mapping[str, Estimate]] = []
    for option in (option for slot in names for option in effects.of(slot)):
        heads.append(["option", option.slot, option.option, "", "", option.prompts])
        found.append({"effect": option.effect})
    for pair in effects.interactions:
        (first, second), (one, other) = pair.slots, pair.options
        heads.append(["pair", first, one, second, other, pair.prompts])
        found.append({"effect": pair.beyond})
    return _write(path, ["kind", "slot", "option", "with_slot", "with_option", "prompts"], heads, found)


def _write(
    path: Path,
    header: list[str],
    heads: Sequence[Sequence[object]],
    metrics: Sequence[Mapping[str, Estimate]],
) -> Path:
    names = list(dict.fromkeys(name for row in metrics for name in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*header, *(f"{name}:{part}" for name in names for part in _PARTS)])
    for head, row in zip(heads, metrics, strict=True):
        cells = [_cell(getattr(row[name], part)) if name in row else "" for name in names for part in _PARTS]
        writer.writerow([*head, *cells])
    return write_text(path, stream.getvalue())


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
