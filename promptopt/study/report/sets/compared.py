"""Two finished studies of sets on one page: their sets side by side, and which one's images do better."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scipy.special import ndtr

from evaluation.estimate import Estimate
from evaluation.inference.multiple_testing import holm
from generators.errors import GeneratorError
from generators.request import ImageRequest
from generators.stores.opening import open_store
from promptopt.base.files import write_text
from promptopt.config.study_file import StudyError
from promptopt.formatting.numbers import count, p_value, value_and_interval
from promptopt.formatting.pages import page_templates
from promptopt.run.finished import read_confirmed
from promptopt.run.folder import PROMPTS
from promptopt.run.images import is_drawn
from promptopt.run.prompt_sets import ClassEntry, SetList, WeightedPrompt
from promptopt.run.prompts import EstimateEntry
from promptopt.run.set_names import LESS
from promptopt.study.report.pictures import SMALL
from promptopt.study.report.sets.album import Album
from promptopt.study.report.sets.forest import Forest, Row, forest
from promptopt.study.sets.words import listed
from studies.dataset import CLAIM_FROM

_EACH = 4  # images of a prompt
_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first run less the second: balanced accuracy, or nearness to the real images (MMD^2, sign turned).

    The interval takes both runs' errors for independent. Both were measured on the same real images, so it is
    wider than it needs to be, if anything.
    """

    label: str
    metric: str
    first: EstimateEntry
    second: EstimateEntry
    estimate: Estimate
    p_value: float
    p_adjusted: float = 1.0

    @property
    def verdict(self) -> str:
        """Of the first run, after Holm's correction over all differences on the page."""
        value = self.estimate.value
        few = min(self.first.n, self.second.n) < CLAIM_FROM
        if few or value is None or value == 0 or self.p_adjusted >= 0.05:
            return "unclear"
        return "better" if value > 0 else "worse"


@dataclass(frozen=True, kw_only=True)
class SharedPrompt:
    """A prompt of both sets (up to case, punctuation and spaces)."""

    label: str
    prompt: str
    first: float
    second: float


@dataclass(frozen=True, kw_only=True)
class ComparedRuns:
    """What the page says.

    Attributes:
        names: of both runs.
        labels: classes that both have.
        notes: what could not be compared, and why.
        real: what the images compared with are: "real" or "phantom".
    """

    names: tuple[str, str]
    lists: tuple[SetList, SetList]
    labels: tuple[str, ...]
    differences: tuple[Difference, ...]
    shared: tuple[SharedPrompt, ...]
    notes: tuple[str, ...]
    real: str = "real"

    @property
    def sentence(self) -> str:
        """Which run's set did better, by what was measured."""
        if not self.differences:
            return f"Nothing that was measured of {self.names[0]} and {self.names[1]} can be compared."
        said = [_of_accuracy(one, self.names) for one in self.differences if one.metric == "accuracy"]
        return " ".join([*said, *_of_closeness(self.differences, self.names, self.real)])


def compare_runs(first: str | Path, second: str | Path) -> ComparedRuns:
    """Compare two finished runs by what their prompts.json say.

    Raises:
        StudyError: not finished, of single prompts, on other real images, or without a class in common.
    """
    folders = Path(first), Path(second)
    lists = _read(folders[0]), _read(folders[1])
    a, b = lists
    if a.data != b.data:
        raise StudyError(
            f"{folders[0]} and {folders[1]} were measured against other real images (data {a.data[:12]} and "
            f"{b.data[:12]}), so their figures say nothing about each other. Run one of the studies again "
            "with the other's data."
        )
    known = [entry.label for entry in b.classes]
    labels = tuple(entry.label for entry in a.classes if entry.label in known)
    if not labels:
        raise StudyError(
            f"{folders[0]} and {folders[1]} have no class in common: "
            f"{', '.join(e.label for e in a.classes)}; {', '.join(known)}. Compare runs of the same classes."
        )
    names = tuple(folder.resolve().name for folder in folders)
    if names[0] == names[1]:
        names = tuple(str(folder) for folder in folders)
    differences, notes = _differences(a, b, labels)
    alone = [e.label for one in lists for e in one.classes if e.label not in labels]
    if alone:
        notes.append(f"In one run alone, and not shown: {', '.join(alone)}.")
    return ComparedRuns(
        names=(names[0], names[1]),
        lists=lists,
        labels=labels,
        differences=tuple(_corrected(differences)),
        shared=tuple(row for label in labels for row in _shared(a.of(label), b.of(label))),
        notes=tuple(notes),
        real="phantom" if is_drawn(folders[0]) else "real",
    )


def write_comparison(path: Path, found: ComparedRuns, *, store: Path | None = None) -> Path:
    """Write one self-contained HTML file.

    Args:
        store: of the runs' images, of which the first of each prompt are shown; those that are not there are
            left out.
    """
    environment = page_templates("promptopt.study.report")
    environment.filters["count"] = count
    environment.filters["p"] = lambda p: p_value(p, missing="\u2014")
    album, size = Album(), 0
    pictures: dict[tuple[int, str, str], list[int]] = {}
    for place, sets in enumerate(found.lists):
        for label in found.labels:
            for one in sets.of(label).set.prompts:
                paths = _pictures(sets, one, store)
                pictures[place, label, one.candidate.label] = album.add_all(paths)
        size = max(size, *(int(sets.settings["generator"].get(k, 0)) for k in ("width", "height")))
    text = environment.get_template("sets/compared.html.jinja").render(
        found=found,
        album=album,
        pictures=pictures,
        pixelated=0 < size <= SMALL,
        accuracy=_forest(found, "accuracy"),
        closeness=_forest(found, "closeness"),
        rows=[_row(one) for one in found.differences],
    )
    return write_text(path, text)


def _read(folder: Path) -> SetList:
    if not (folder / PROMPTS).is_file():
        raise StudyError(
            f"{folder}: not a finished run, {PROMPTS} is missing. Give two finished run folders."
        )
    found = read_confirmed(folder / PROMPTS)
    if not isinstance(found, SetList):
        raise StudyError(
            f"{folder}: a study of single prompts, and this compares studies of sets. Its own figures are in "
            "its report.html."
        )
    return found


def _differences(a: SetList, b: SetList, labels: Sequence[str]) -> tuple[list[Difference], list[str]]:
    found, notes = [], []
    if "set" in a.accuracy and "set" in b.accuracy:
        trained = [one.settings["confirm"].get("classifier") for one in (a, b)]
        names = [sorted(entry.label for entry in one.classes) for one in (a, b)]
        if trained[0] == trained[1] and names[0] == names[1]:
            found.append(_difference("all classes", "accuracy", a.accuracy["set"], b.accuracy["set"]))
        else:
            notes.append("Accuracies are not compared: the classifiers were trained in other ways.")
    for label in labels:
        if _same_scale(a, b, label):
            mine, other = (one.of(label).closeness["set"] for one in (a, b))
            found.append(_difference(label, "closeness", _turned(mine), _turned(other)))
        else:
            notes.append(
                f"Distances of {label} are not compared: encoder, generator, baseline or seeds differ, and "
                "with them the width of the kernel."
            )
    return found, notes


def _same_scale(a: SetList, b: SetList, label: str) -> bool:
    """Whether distances have one unit: the kernel's width follows from the baseline's first images."""

    def scale(sets: SetList) -> list[Any]:
        images = 2 * int(sets.settings["set"]["images"])
        own = sets.of(label)
        drawn = [sets.generator.fingerprint, own.generators, sets.settings["generator"]]
        return [sets.encoder.fingerprint, own.baseline, *drawn, sets.seeds.search[:images]]

    return scale(a) == scale(b)


def _difference(label: str, metric: str, first: EstimateEntry, second: EstimateEntry) -> Difference:
    estimate, p = difference_of(first.estimate(), second.estimate())
    return Difference(label=label, metric=metric, first=first, second=second, estimate=estimate, p_value=p)


def difference_of(first: Estimate, second: Estimate) -> tuple[Estimate, float]:
    """First less second with errors taken for independent, and p from the normal distribution.

    >>> one = Estimate(0.8, 0.7, 0.9, 50, "mean", "ok")
    >>> found, p = difference_of(one, Estimate(0.5, 0.4, 0.6, 50, "mean", "ok"))
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3), p < 0.001
    (0.3, 0.159, 0.441, True)
    """
    n = min(first.n, second.n)
    if first.value is None or second.value is None:
        return Estimate(None, None, None, n, "difference", "undefined"), 1.0
    value = first.value - second.value
    ends = (first.low, first.high, second.low, second.high)
    if any(end is None for end in ends):
        return Estimate(value, None, None, n, "difference", "unreliable"), 1.0
    below = math.hypot(first.value - float(ends[0] or 0.0), float(ends[3] or 0.0) - second.value)
    above = math.hypot(float(ends[1] or 0.0) - first.value, second.value - float(ends[2] or 0.0))
    toward = below if value > 0 else above  # zero
    p = 2 * float(ndtr(-abs(value) * _Z / toward)) if toward > 0 else float(value == 0)
    found = Estimate(value, value - below, value + above, n, "difference", "ok")
    return found if first.status == second.status == "ok" else replace(found, status="unreliable"), p


def _turned(one: EstimateEntry) -> EstimateEntry:
    """More is better."""
    turned = {"value": one.value, "low": one.high, "high": one.low}
    return one.model_copy(update={k: None if v is None else -v for k, v in turned.items()})


def _corrected(found: Sequence[Difference]) -> list[Difference]:
    adjusted = holm([one.p_value for one in found]) if found else []
    return [replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True)]


def _shared(a: ClassEntry, b: ClassEntry) -> list[SharedPrompt]:
    other = {one.candidate.normalized_key: one for one in b.set.prompts}
    return [
        SharedPrompt(
            label=a.label,
            prompt=one.candidate.label,
            first=one.weight,
            second=other[one.candidate.normalized_key].weight,
        )
        for one in a.set.prompts
        if one.candidate.normalized_key in other
    ]


def _of_accuracy(one: Difference, names: tuple[str, str]) -> str:
    first, second = names
    value, interval = value_and_interval(one.estimate, "+.1f", scale=100, mark="")
    words = {
        "better": f"Images of {first}'s set train a better classifier than {second}'s",
        "worse": f"Images of {first}'s set train a worse classifier than {second}'s",
        "unclear": f"Neither {first}'s set nor {second}'s was shown to train a better classifier",
    }[one.verdict]
    return f"{words}: {value} points" + (f" (95 % interval {interval})." if interval else ".")


def _of_closeness(found: Sequence[Difference], names: tuple[str, str], real: str) -> list[str]:
    """A sentence a verdict, each of its classes."""
    first, second = names
    words = {
        "better": f"{first}'s set is nearer to unseen {real} images of {{}}.",
        "worse": f"{second}'s set is nearer to unseen {real} images of {{}}.",
        "unclear": f"Neither was shown to be nearer to unseen {real} images of {{}}.",
    }
    said = []
    for verdict, text in words.items():
        own = [f"\u201c{d.label}\u201d" for d in found if d.metric == "closeness" and d.verdict == verdict]
        if own:
            said.append(text.format(listed(own)))
    return said


def _row(one: Difference) -> dict[str, Any]:
    style, scale = (".1f", 100.0) if one.metric == "accuracy" else (".0f", float(LESS))
    first, second = one.first, one.second
    if one.metric != "accuracy":
        first, second = _turned(first), _turned(second)

    def cell(estimate: EstimateEntry | Estimate, style: str) -> str:
        value, interval = value_and_interval(estimate, style, scale=scale)
        return f"{value} ({interval})" if interval else value or "\u2014"

    return {
        "label": one.label,
        "metric": "balanced accuracy, %" if one.metric == "accuracy" else "distance, MMD\u00b2 \u00d7 1000",
        "first": cell(first, style),
        "second": cell(second, style),
        "difference": cell(one.estimate, "+" + style),
        "p": one.p_adjusted,
        "verdict": one.verdict,
    }


def _forest(found: ComparedRuns, metric: str) -> Forest | None:
    style, scale = ("+.1f", 100.0) if metric == "accuracy" else ("+.0f", float(LESS))
    own = [one for one in found.differences if one.metric == metric]
    rows = [Row(one.label, one.estimate, one.verdict, marked=True) for one in own]
    return forest(rows, style, scale=scale) if rows else None


def _pictures(sets: SetList, one: WeightedPrompt, store: Path | None) -> list[Path]:
    """The first images of a prompt on the seeds of the search, as far as they are in the store."""
    if store is None or not (store / "images").is_dir():
        return []
    drawn: Mapping[str, Any] = {
        **sets.settings["generator"],
        **({} if one.negative_prompt is None else {"negative_prompt": one.negative_prompt}),
        **one.generation_parameters,
    }
    paths = []
    with contextlib.suppress(GeneratorError, TypeError, ValueError):  # drawn in another way
        for seed in sets.seeds.search[:_EACH]:
            request = ImageRequest(
                **drawn, generator=sets.generator.fingerprint, prompt=one.prompt, seed=seed
            )
            image = open_store(store / "images").get(request)
            paths += [] if image is None else [image.path]
    return paths
