"""What a study of sets says: the sentence of what was shown, and signs that people read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from promptopt.formatting.numbers import p_value, value_and_interval

if TYPE_CHECKING:
    from promptopt.run.prompt_sets import ComparisonEntry
    from promptopt.run.prompts import EstimateEntry
    from promptopt.study.sets.confirm import Compared, Confirmation


def nearer(one: ComparisonEntry) -> EstimateEntry:
    """The difference with its sign turned, so that more is better."""
    found = one.difference
    turned = {
        k: None if v is None else -v
        for k, v in (("value", found.value), ("low", found.high), ("high", found.low))
    }
    return found.model_copy(update=turned)


def sentence(labels: Sequence[str], confirmation: Confirmation, *, real: str = "real") -> str:
    """What was shown against the baseline prompt, for a classifier and for each class, and what was not.

    Args:
        labels: the classes, in the order in which they are named.
        real: what the images compared with are: "real" or "phantom".
    """
    from studies.dataset import CLAIM_FROM

    near = [one for label in labels if (one := confirmation.of(label, "closeness", "baseline")) is not None]
    gain = confirmation.of("all classes", "accuracy", "baseline")
    shown = near if gain is None else [gain, *near]
    if not any(one.enough for one in shown):
        return (
            f"Nothing can be claimed yet: the confirmation had too few images, synthetic or {real} "
            f"(at least {CLAIM_FROM} of each are needed)."
        )
    parts = [] if gain is None else [_accuracy_words(confirmation, gain)]
    images = "They" if parts else "Images of the set"
    words = {
        "better": f"{images} are nearer to unseen {real} images of {{}} than the baseline prompt's.",
        "worse": f"{images} are further from unseen {real} images of {{}} than the baseline prompt's.",
        "unclear": f"{images} were not shown to be nearer to unseen {real} images of {{}}.",
    }
    for verdict, text in words.items():
        own = [f"\u201c{one.label}\u201d" for one in near if one.verdict == verdict]
        if own:
            parts.append(text.format(listed(own)))
    return " ".join(parts)


def _accuracy_words(confirmation: Confirmation, gain: Compared) -> str:
    value, interval = value_and_interval(gain.estimate, "+.1f", scale=100, mark="")
    notes = [f"95 % interval {interval}"] if interval else []
    if gain.verdict == "unclear":
        notes.append(f"{p_value(gain.p_adjusted, name='p')} after correction")
    points = f"{value} points" + (f" ({'; '.join(notes)})" if notes else "")
    rows = confirmation.accuracy
    levels = [rows[name].estimates["balanced_accuracy"].value for name in ("set", "baseline") if name in rows]
    both = [f"{100 * level:.1f} %" for level in levels if level is not None]
    against = f"{both[0]} against {both[1]}, " if len(both) == 2 else ""
    if gain.verdict == "unclear":
        return (
            "Images of the set were not shown to train a better classifier than the baseline prompt's: "
            f"balanced accuracy {against}{points}."
        )
    return (
        f"Images of the set train a {gain.verdict} classifier than the baseline prompt's: "
        f"balanced accuracy {against}{points}."
    )


def listed(words: Sequence[str]) -> str:
    """Words with commas and an "and"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
