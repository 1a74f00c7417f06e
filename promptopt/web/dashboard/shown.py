"""What the dashboard shows of a prompt, from the run's trials or its list of confirmed prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evaluation.estimate import Estimate
from promptopt.run.database import BROKEN
from promptopt.run.images import Stage, image_count
from promptopt.run.trials import rows_of_trial
from promptopt.space import Candidate

if TYPE_CHECKING:
    from promptopt.run.prompts import PromptList

LOOKS = "times measured"


@dataclass(frozen=True)
class Shown:
    """One prompt as the dashboard shows it. `values` are told to its plots; `facts` stand in its tables.

    Attributes:
        by_images: the value on so many images.
        state: of the trial, as Optuna names it.
        broken: how many constraints it breaks; None where that is open.
        each: of a method that draws prompts, the one of each seed; None for a single prompt on all of them.
    """

    candidate: Candidate
    values: tuple[float, ...] | None
    params: Mapping[str, Any]
    distributions: Mapping[str, Any]
    estimates: Mapping[str, Estimate]
    stage: Stage
    images: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    by_images: Mapping[int, float] = field(default_factory=dict)
    state: str = "COMPLETE"
    broken: float | None = None
    started: Any = None
    ended: Any = None
    each: Sequence[Candidate] | None = None


def looks(trial: Any) -> int:
    """How often the prompt of a run's trial was measured."""
    of_set = trial.user_attrs.get("looks")
    return len(rows_of_trial(trial)) if of_set is None else len(of_set)


def of_trial(trial: Any, images: int) -> Shown:
    """A trial of a run that was measured once or more; `images` where it does not say of how many."""
    rows = rows_of_trial(trial)
    row = rows[-1]
    params, distributions = readable_parameters(trial)
    facts = {
        LOOKS: len(rows),
        "shown to be worse than": None if row.eliminated_by is None else row.eliminated_by.label,
        "breaks": "; ".join(row.violations) or None,
    }
    return Shown(
        candidate=row.candidate,
        values=None if trial.values is None else tuple(trial.values),
        params=params,
        distributions=distributions,
        estimates={"score": row.score, **row.estimates},
        stage="search",
        images=image_count(row.per_image, images),
        facts={name: fact for name, fact in facts.items() if fact is not None},
        **history(trial),
    )


def history(trial: Any) -> dict[str, Any]:
    """What every trial of a run says of its course, by the names of `Shown`."""
    return {
        "by_images": dict(trial.intermediate_values),
        "state": trial.state.name,
        "broken": trial.constraints.get(BROKEN),
        "started": trial.datetime_start,
        "ended": trial.datetime_complete,
    }


def readable_parameters(trial: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A trial's parameters and their distributions, every option as a person reads it."""
    import optuna

    names = {name: _readable(kind) for name, kind in trial.distributions.items()}
    distributions = {
        name: optuna.distributions.CategoricalDistribution(list(names[name].values()))
        if names[name]
        else kind
        for name, kind in trial.distributions.items()
    }
    return {name: names[name].get(value, value) for name, value in trial.params.items()}, distributions


def of_prompts(prompts: PromptList, images: int) -> list[Shown]:
    """The confirmed prompts."""
    rows = []
    for entry in prompts.prompts:
        estimates = {name: found.estimate() for name, found in entry.confirmation.items()}
        rows.append(
            Shown(
                candidate=entry.candidate,
                values=(estimates["score"].value or 0.0,),
                params={},
                distributions={},
                estimates=estimates,
                stage="confirmation",
                images=images,
                facts={
                    "rank": entry.rank,
                    "weight": entry.weight,
                    "tied with the first": entry.tied_with_first,
                    "the plain baseline": entry.candidate == prompts.baseline.candidate,
                },
            )
        )
    return rows


def _readable(kind: Any) -> dict[Any, Any]:
    """Option of a slot -> the option without the comma it is joined by, the empty one by name."""
    choices = list(getattr(kind, "choices", ()))
    names = [(c.strip(" ,") or "(left out)") if isinstance(c, str) else c for c in choices]
    return dict(zip(choices, names if len(set(names)) == len(choices) else choices, strict=True))
