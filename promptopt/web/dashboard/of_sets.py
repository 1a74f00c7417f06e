"""What the dashboard shows of a study of sets: prompts of a class, and the methods that were confirmed."""

from __future__ import annotations

from typing import Any

from promptopt.run.prompt_sets import CONFIRMED, ClassEntry, SetList
from promptopt.run.set_names import TITLES
from promptopt.space import Candidate
from promptopt.web.dashboard.shown import LOOKS, Shown, history, looks, readable_parameters

ADDS = "adds"
WEIGHT = "weight"  # of a prompt of the set, in the run's database too
DISTANCE = "MMD²"


def of_set_trial(trial: Any) -> Shown:
    """A prompt of a class's search; its values are what it would have added to the set at that time."""
    attrs = trial.user_attrs
    candidate = Candidate.from_json(attrs["candidate"])
    params, distributions = readable_parameters(trial)
    known = {**trial.intermediate_values, **({} if trial.value is None else {"last": trial.value})}
    facts = {
        LOOKS: looks(trial),
        ADDS: float(f"{list(known.values())[-1]:.4g}") if known else None,
        WEIGHT: attrs.get(WEIGHT, 0.0),
        "excluded": attrs.get("excluded", ""),
    }
    return Shown(
        candidate=candidate,
        values=None if trial.values is None else tuple(trial.values),
        params=params,
        distributions=distributions,
        estimates={},
        stage="search",
        images=attrs["looks"][-1][-1],
        facts={name: fact for name, fact in facts.items() if fact is not None},
        **history(trial),
    )


def of_methods(sets: SetList, entry: ClassEntry) -> list[Shown]:
    """What was confirmed of a class: the set, and all that it was compared with, the nearest first.

    Images are shown where prompts.json says which prompt had which seed: not of random ones, which were
    drawn besides.
    """
    found = []
    for method, closeness in entry.closeness.items():
        drawn = sets.confirmed(entry.label, method) if method in CONFIRMED else []
        estimates = {DISTANCE: closeness.estimate()}
        if method in entry.second_encoder:
            estimates[f"{DISTANCE}, second encoder"] = entry.second_encoder[method].estimate()
        estimates |= {name: one.estimate() for name, one in entry.metrics.get(method, {}).items()}
        candidate = drawn[0] if method in ("baseline", "single") else Candidate(TITLES.get(method, method))
        found.append(
            Shown(
                candidate=candidate,
                values=(0.0 if closeness.value is None else closeness.value,),
                params={},
                distributions={},
                estimates=estimates,
                stage="confirmation",
                images=len(drawn),
                each=tuple(drawn),
                facts={"drawn by": method},
            )
        )
    return sorted(found, key=lambda one: one.values or ())
