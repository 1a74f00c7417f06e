"""The tables of a run as CSV: one row a prompt, value, low, high, n, method and status of every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.estimate import Estimate
from promptopt.base.files import write_text
from promptopt.formatting.tables import csv_table
from promptopt.run.trials import TrialRow
from promptopt.scoring.confirm import Confirmed
from promptopt.search.model.effects import SlotEffects


def write_trials(path: Path, rows: Sequence[TrialRow]) -> Path:
    """Every trial in order, with its slots (columns `slot:...`).

    A row that `continues` another has the same prompt on more images.
    """
    metrics = [{"score": row.score, **row.estimates} for row in rows]
    slots = list(dict.fromkeys(name for row in rows for name in row.choice))
    header = ["trial", "prompt", "images", "duplicate_of", "continues", "eliminated_by", "violations"]
    header += [f"slot:{name}" for name in slots]
    heads: list[list[object]] = [
        [row.number, str(row.candidate), row.images, row.duplicate_of, row.continues]
        + [row.eliminated_by, "; ".join(row.violations)]
        + [row.choice.get(name, "") for name in slots]
        for row in rows
    ]
    return write_text(path, csv_table(header, heads, metrics))


def write_confirmation(path: Path, confirmed: Sequence[Confirmed]) -> Path:
    """The confirmed prompts in order, the baseline among them."""
    header = ["rank", "prompt", "tied_with_first", "better_than_baseline", "p_value", "contradicted_by"]
    heads: list[list[object]] = [
        [c.rank, str(c.candidate), c.tied, c.better, c.p_value, c.contradicted_by] for c in confirmed
    ]
    metrics: list[Mapping[str, Estimate]] = [_all_estimates(c) for c in confirmed]
    return write_text(path, csv_table(header, heads, metrics))


def _all_estimates(c: Confirmed) -> dict[str, Estimate]:
    found = {"score": c.score.estimate}
    found |= {name: one for name, one in (("shrunken", c.shrunken), ("optimism", c.optimism)) if one}
    found |= {f"{name}:gain": said.gain for name, said in c.independent_checks.items()}
    return found | dict(c.measurement.estimates)


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
    header = ["kind", "slot", "option", "with_slot", "with_option", "prompts"]
    return write_text(path, csv_table(header, heads, found))
