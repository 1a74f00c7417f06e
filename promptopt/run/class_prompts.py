"""One class of a study of sets as a list of prompts, for all that reads one."""

from __future__ import annotations

from promptopt.run.prompt_sets import METHODS, ClassEntry, SetList
from promptopt.run.prompts import (
    BaselineEntry,
    EstimateEntry,
    MixtureEntry,
    PortfolioEntry,
    PromptEntry,
    PromptList,
)
from studies.category import CATEGORIES


def class_prompts(sets: SetList, entry: ClassEntry) -> PromptList:
    """The set's prompts in order of weight. A set is confirmed as a whole, so no prompt has estimates of its
    own; those of the set and of what it was compared with are in `portfolio`.
    """
    return PromptList(
        study=sets.study,
        category=entry.label if entry.label in CATEGORIES else entry.category,
        baseline=BaselineEntry(prompt=entry.baseline, search={}, confirmation=_measured(entry, "baseline")),
        prompts=[
            PromptEntry(
                rank=rank,
                prompt=one.prompt,
                negative_prompt=one.negative_prompt,
                generation_parameters=one.generation_parameters or None,
                slots=None,
                weight=one.weight,
                tied_with_first=False,
                behind_first=None,
                search={},
                confirmation={},
            )
            for rank, one in enumerate(entry.set.prompts, start=1)
        ],
        tied=[],
        weights_note=_note(entry),
        portfolio=PortfolioEntry(
            method="set",
            distance="MMD^2",
            alignment_floor=None,
            left_out={},
            images_fitted=entry.images_in_search,
            images_compared=max((one.n for one in entry.closeness.values()), default=0),
            compared={
                name: MixtureEntry(weights={}, estimates=_measured(entry, name)) for name in entry.closeness
            },
            differences=_differences(entry),
        ),
        prompts_in_space=entry.prompts_in_space,
        prompts_scored=entry.prompts_measured,
        images_in_search=entry.images_in_search,
        stopped=entry.stopped,
        generator=sets.generator,
        generators=entry.generators,
        encoder=sets.encoder,
        second_encoder=sets.second_encoder,
        judge=None,
        data=sets.data,
        seeds=sets.seeds,
        settings={**sets.settings, "positives": entry.label},
        versions=sets.versions,
    )


def _measured(entry: ClassEntry, method: str) -> dict[str, EstimateEntry]:
    found = {"closeness": entry.closeness[method]} if method in entry.closeness else {}
    return {**found, **entry.metrics.get(method, {})}


def _differences(entry: ClassEntry) -> dict[str, dict[str, EstimateEntry]]:
    found: dict[str, dict[str, EstimateEntry]] = {}
    for one in entry.comparisons:
        if one.first == METHODS[0]:
            found.setdefault(one.second, {})[one.metric] = one.difference
    return found


def _note(entry: ClassEntry) -> str:
    shares = "shares of a set, which is confirmed as a whole"
    for one in entry.comparisons:
        if (one.first, one.second, one.metric) == ("set", "baseline", "closeness"):
            verdict = {"better": "nearer to real images than", "worse": "further from real images than"}
            if one.verdict in verdict:
                return f"{shares}: {verdict[one.verdict]} the baseline prompt's"
            return f"{shares}: no difference from the baseline prompt was shown"
    return shares
