"""The sentence of a study of sets is no stronger than its numbers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from evaluation.estimate import Estimate
from promptopt.study.sets.confirm import Compared, Confirmation
from promptopt.study.sets.words import sentence


def compared(label: str, value: float, p: float, *, enough: bool = True) -> Compared:
    accuracy = label == "all classes"
    return Compared(
        label=label,
        first="set",
        second="baseline",
        metric="accuracy" if accuracy else "closeness",
        estimate=Estimate(value, value - 0.05, value + 0.05, 40, "paired", "ok"),
        p_value=p,
        p_adjusted=p,
        enough=enough,
    )


def said(*all_compared: Compared, accuracy: dict[str, float] | None = None, **more: Any) -> str:
    rows = {
        name: SimpleNamespace(
            estimates={"balanced_accuracy": Estimate(v, v - 0.02, v + 0.02, 9, "mean", "ok")}
        )
        for name, v in (accuracy or {}).items()
    }
    found = Confirmation(classes={}, accuracy=rows, compared=all_compared)  # type: ignore[arg-type]
    return sentence(["polyp", "normal"], found, **more)


def test_a_win_is_said_with_both_levels_and_its_interval() -> None:
    text = said(
        compared("all classes", 0.087, 0.001),
        compared("polyp", -0.1, 0.001),
        compared("normal", -0.2, 0.001),
        accuracy={"set": 0.88, "baseline": 0.793},
    )
    assert text == (
        "Images of the set train a better classifier than the baseline prompt's: balanced accuracy 88.0 % "
        "against 79.3 %, +8.7 points (95 % interval +3.7 to +13.7). They are nearer to unseen real images of "
        "\u201cpolyp\u201d and \u201cnormal\u201d than the baseline prompt's."
    )


def test_no_win_is_said_plainly() -> None:
    text = said(
        compared("all classes", 0.087, 0.2), compared("polyp", 0.01, 0.5), compared("normal", 0.1, 0.001)
    )
    assert "were not shown to train a better classifier" in text
    assert "p = 0.2 after correction" in text
    assert "They are further from unseen real images of \u201cnormal\u201d" in text
    assert "They were not shown to be nearer to unseen real images of \u201cpolyp\u201d." in text
    assert "train a better classifier than" not in text.replace(
        "not shown to train a better classifier than", ""
    )


def test_a_difference_without_an_interval_has_none_in_words() -> None:
    one = replace(compared("all classes", 0.0, 1.0), estimate=Estimate(0.0, None, None, 40, "paired", "ok"))
    assert "+0.0 points (p = 1 after correction)." in said(one)


def test_a_harm_is_said() -> None:
    assert "train a worse classifier" in said(compared("all classes", -0.1, 0.001))


def test_nothing_is_claimed_of_few_images() -> None:
    text = said(compared("polyp", -0.1, 0.0001, enough=False))
    assert text.startswith("Nothing can be claimed yet")
    assert "32" in text


@pytest.mark.parametrize("verdict", [0.001, 0.5])
def test_a_phantom_is_not_called_real(verdict: float) -> None:
    text = said(compared("polyp", -0.1, verdict), real="phantom")
    assert "phantom images" in text
    assert " real " not in text
