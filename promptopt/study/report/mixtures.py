"""The portfolio in the report: a table of mixtures and one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promptopt.run.prompts import EstimateEntry, PromptList

METRICS = {
    "mmd": "MMD², lower is better",
    "frechet": "Fréchet distance, lower is better",
    "synthetic_to_real": "Synthetic to real, higher is better",
}
_TITLES = {"portfolio": "The portfolio", "single_best": "The first prompt alone"}


@dataclass(frozen=True)
class MixtureRow:
    """One line: a mixture's values, or the portfolio minus another mixture."""

    title: str
    cells: tuple[EstimateEntry, ...]


def mixture_rows(prompts: PromptList) -> list[MixtureRow]:
    """The mixtures, then the differences; empty when the weights come from no portfolio."""
    found = prompts.portfolio
    if found is None:
        return []

    def title(name: str) -> str:
        return _TITLES.get(name) or f"The first {len(found.compared[name].weights)} prompts, equal shares"

    rows = [
        MixtureRow(title(name), tuple(mixture.estimates[metric] for metric in METRICS))
        for name, mixture in found.compared.items()
    ]
    for name, gaps in found.differences.items():
        other = title(name)
        cells = tuple(gaps[metric] for metric in METRICS)
        rows.append(MixtureRow(f"Portfolio minus {other[0].lower()}{other[1:]}", cells))
    return rows


def mixture_sentence(prompts: PromptList) -> str | None:
    """What the portfolio gains over the first prompt alone, no stronger than the interval allows."""
    found = prompts.portfolio
    if found is None:
        return None
    count = len(found.compared["portfolio"].weights)
    what = f"a mixture of {count} prompts" if count > 1 else "one prompt"
    gap = found.differences["single_best"]["mmd"]
    if gap.high is not None and gap.high < 0:
        verdict = "Its images are nearer to the unseen real ones than those of the first prompt alone"
    elif gap.low is not None and gap.low > 0:
        verdict = "Its images are further from the unseen real ones than those of the first prompt alone"
    else:
        verdict = "Its images could not be told from those of the first prompt alone by their distance"
    return f"The weights describe {what}. {verdict} ({found.images_compared} images a prompt)."
