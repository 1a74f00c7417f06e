"""The notes (Markdown) that stand beside the dashboard's studies and trials."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from evaluation.estimate import Estimate
from promptopt.formatting.numbers import value_and_interval
from promptopt.run.images import RunImages, Stage
from promptopt.space import Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from promptopt.run.prompt_sets import SetList
    from promptopt.run.prompts import PromptList

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~&$-])")
_WARNING = "The images are synthetic. Nothing may be diagnosed from them."
_COPY = f"This is a copy: what is changed here does not touch the run. {_WARNING}"


class _Prompt(Protocol):
    @property
    def candidate(self) -> Candidate: ...
    @property
    def estimates(self) -> Mapping[str, Estimate]: ...


def study_note(images: RunImages, *, stage: Stage, prompts: PromptList | None) -> str:
    """What one looks at, and how far it may be trusted."""
    lines = [
        f"# {escaped(images.name)}",
        "",
        f"Category: {escaped(str(images.settings['category']['title']))}",
        "",
    ]
    if stage == "search":
        lines += [
            f"Every trial is a prompt, scored on {images.count('search')} images of the same seeds as all "
            "others: its distance from the plain baseline prompt "
            f"(“{escaped(images.baseline.label)}” = 0) in standard deviations of the baseline's images. "
            "The best of many is **optimistic**; only the confirmation on fresh seeds is a result.",
        ]
        if prompts is None:
            lines += ["", "The study is not finished: nothing is confirmed yet."]
    else:
        from promptopt.study.report.render import verdict

        assert prompts is not None
        lines += [
            escaped(verdict(prompts)),
            "",
            f"Every trial is a confirmed prompt on {images.count('confirmation')} fresh images.",
        ]
    lines += ["", _COPY]
    return "\n".join(lines)


def set_note(images: RunImages) -> str:
    """What one looks at in a class's search for a set, and how far it may be trusted."""
    return "\n".join(
        [
            f"# {escaped(f'{images.name}, {images.label}')}",
            "",
            f"Category: {escaped(str(images.settings['category']['title']))}",
            "",
            "Every trial is a prompt. Its value, by number of images, is what it would have added to the set "
            "at that time: by how much more of it would bring the set's images nearer to the real ones "
            f"(squared maximum mean discrepancy; the set's own prompts are near 0, the baseline is "
            f"“{escaped(images.baseline.label)}”). Trials that left the set after their first images are "
            "pruned. What counts is the set as a whole, on fresh seeds.",
            "",
            _COPY,
        ]
    )


def confirmed_set_note(images: RunImages, sets: SetList) -> str:
    """What was shown of a study's sets."""
    return "\n".join(
        [
            f"# {escaped(f'{images.name}, {images.label}')}",
            "",
            escaped(sets.sentence),
            "",
            "Every trial is a way to draw prompts, one for each of "
            f"{len(sets.seeds.confirmation)} fresh images; its value is their distance from real images of "
            "the test pool, less being better.",
            "",
            _COPY,
        ]
    )


def trial_note(shown: _Prompt, found: int, wanted: int, *, picture: str | None) -> str:
    """The prompt, its images (`picture` is their address) and its metrics with intervals."""
    from promptopt.scoring.metric_titles import METRICS

    titles = {metric.name: metric.title for metric in METRICS}
    lines = [f"**{escaped(line)}**  " for line in shown.candidate.label.split("\n")]
    if picture is not None:
        lines += ["", f"![images of this prompt]({picture})"]
    if shown.estimates:
        lines += ["", "| metric | value | 95 % interval | images | |", "|---|---|---|---|---|"]
        lines += [
            _row(titles.get(name, name.replace("_", " ")), estimate)
            for name, estimate in shown.estimates.items()
        ]
    if found < wanted:
        lines += ["", f"{wanted - found} of {wanted} images are not in the store."]
    return "\n".join([*lines, "", _WARNING])


def escaped(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return _SPECIAL.sub(r"\\\1", text)


def _row(title: str, estimate: Estimate) -> str:
    value, span = value_and_interval(estimate, ".3g", mark="")
    note = "" if estimate.status == "ok" else estimate.status
    return f"| {escaped(title)} | {value or 'undefined'} | {span} | {estimate.n} | {note} |"
