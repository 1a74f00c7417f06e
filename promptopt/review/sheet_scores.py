"""Answers against the key: can synthetic images be told from real ones?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.estimate import Estimate
from evaluation.inference.agreement import cohen_kappa, fleiss_kappa
from promptopt.base.reading import read_table
from promptopt.review.records import ReviewError
from promptopt.review.sheet import COLUMNS, KEY_FORMAT

_ANSWERS = {"real": False, "r": False, "synthetic": True, "s": True}
_ACCURACY = "share of right answers, Clopper-Pearson interval"
_TOGETHER = "mean over the images of the raters' share of right answers, t interval over the images"


@dataclass(frozen=True)
class RaterScore:
    """One rater against the key.

    Attributes:
        accuracy: share of right answers, with Clopper and Pearson's exact interval (1934).
        p_value: two-sided binomial test against guessing, 50 %.
        sensitivity: share of the synthetic images that were called synthetic; specificity, of the real ones
            that were called real. Wilson intervals.
    """

    rater: str
    accuracy: Estimate
    p_value: float
    sensitivity: Estimate
    specificity: Estimate


@dataclass(frozen=True)
class Together:
    """All raters. They saw the same images, so that the images are what the intervals count."""

    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate


@dataclass(frozen=True)
class SheetScores:
    """The whole result. `kappas` are between pairs of raters, `fleiss` of three or more."""

    sheet: str
    images: int
    raters: tuple[RaterScore, ...]
    together: Together
    kappas: Mapping[tuple[str, str], Estimate]
    fleiss: Estimate | None

    @property
    def verdict(self) -> str:
        """One sentence, no stronger than the interval allows."""
        one = self.raters[0].accuracy if len(self.raters) == 1 else self.together.accuracy
        if one.low is None or one.high is None or one.value is None:
            return "too few answers to say"
        span = f"{one.value:.0%} right, {one.low:.0%} to {one.high:.0%}"
        if one.low > 0.5:
            return f"synthetic images are told from real ones more often than by chance ({span})"
        if one.high < 0.5:
            return f"answers are wrong more often than by chance ({span})"
        return f"not told from chance ({span}); that is no proof that they cannot be told apart"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "format": "promptopt-sheet-scores",
            "version": 1,
            "sheet": self.sheet,
            "images": self.images,
            "verdict": self.verdict,
            "raters": [asdict(rater) for rater in self.raters],
            "together": asdict(self.together),
            "kappas": [{"raters": list(pair), "kappa": k.to_dict()} for pair, k in self.kappas.items()],
            "fleiss": None if self.fleiss is None else self.fleiss.to_dict(),
        }


def score_answers(answers: Sequence[str | Path], key: str | Path) -> SheetScores:
    """Read the answers of one or more raters, in one file or several, and compare them with the key.

    Raises:
        ReviewError: a key that is none, an answer that is missing, unknown, given twice or of another sheet;
            with file and line.
    """
    truth, sheet = _read_key(Path(key))
    given: dict[str, dict[int, bool]] = {}
    places: dict[tuple[str, int], str] = {}
    for path in answers:
        _read_answers(Path(path), sheet, truth, given, places)
    for rater, own in given.items():
        missing = sorted(truth.keys() - own.keys())
        if missing:
            listed = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
            raise ReviewError(
                f"{rater}: no row for {'images' if len(missing) > 1 else 'image'} {listed}. Every image "
                "needs an answer; put the rows back."
            )
    raters = sorted(given)
    numbers = sorted(truth)
    synthetic = np.array([truth[number] for number in numbers])
    said = {rater: np.array([given[rater][number] for number in numbers]) for rater in raters}
    right = np.stack([said[rater] == synthetic for rater in raters]).mean(axis=0)
    words = {rater: ["synthetic" if answer else "real" for answer in said[rater]] for rater in raters}
    return SheetScores(
        sheet=sheet,
        images=len(numbers),
        raters=tuple(_rater(rater, said[rater], synthetic) for rater in raters),
        together=Together(_mean(right), _mean(right[synthetic]), _mean(right[~synthetic])),
        kappas={(a, b): cohen_kappa(words[a], words[b]) for a, b in combinations(raters, 2)},
        fleiss=fleiss_kappa(list(zip(*words.values(), strict=True))) if len(raters) > 2 else None,
    )


def _mean(values: np.ndarray) -> Estimate:
    found = Estimate.of_mean(values, method=_TOGETHER)
    if found.value is None or found.low is None or found.high is None:
        return found
    return Estimate(
        found.value, max(found.low, 0.0), min(found.high, 1.0), found.n, found.method, found.status
    )


def _rater(rater: str, said: np.ndarray, synthetic: np.ndarray) -> RaterScore:
    from scipy.stats import binomtest

    right = int((said == synthetic).sum())
    test = binomtest(right, len(said), 0.5)
    interval = test.proportion_ci(0.95, method="exact")
    n = len(said)
    return RaterScore(
        rater,
        Estimate(
            right / n,
            float(interval.low),
            float(interval.high),
            n,
            _ACCURACY,
            "ok" if n >= 10 else "unreliable",
        ),
        float(test.pvalue),
        Estimate.of_proportion(int(said[synthetic].sum()), int(synthetic.sum())),
        Estimate.of_proportion(int((~said[~synthetic]).sum()), int((~synthetic).sum())),
    )


def _read_key(path: Path) -> tuple[dict[int, bool], str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != KEY_FORMAT or content["version"] != 1:
            raise ValueError(f"format {content['format']!r}, version {content['version']!r}")
        return {int(row["number"]): bool(row["synthetic"]) for row in content["images"]}, content["sheet"]
    except OSError as error:
        raise ReviewError(
            f"{path}: cannot be read ({error.strerror or error}). Give the key that `review sheet` wrote."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ReviewError(
            f"{path}: not a sheet's key ({type(error).__name__}: {error}). Give the key that `review "
            "sheet` wrote."
        ) from error


def _read_answers(
    path: Path,
    sheet: str,
    truth: Mapping[int, bool],
    given: dict[str, dict[int, bool]],
    places: dict[tuple[str, int], str],
) -> None:
    table = read_table(
        path,
        COLUMNS[:4],
        error=ReviewError,
        any_case=True,
        remedy=f"The first line must be {','.join(COLUMNS)}, as in the answers.csv that came with the sheet.",
    )
    rows = 0
    for row in table.rows:
        values = {name: cell.strip() for name, cell in row.cells.items()}
        if not any(values.values()):
            continue
        rows += 1
        where = f"{path}, line {row.line}"
        if values.get("sheet") != sheet:
            raise ReviewError(
                f"{where}: belongs to sheet {values.get('sheet')!r}, the key to {sheet!r}. Give the key of "
                "this sheet, or the answers to that one."
            )
        rater = values.get("rater") or path.stem
        number = values.get("number", "")
        if not number.isdecimal() or int(number) not in truth:
            raise ReviewError(f"{where}: number {number!r}: the sheet has images 1 to {len(truth)}.")
        answer = values.get("answer", "").lower()
        if answer not in _ANSWERS:
            problem = "no answer" if not answer else f"answer {answer!r}"
            raise ReviewError(f"{where}: image {number}: {problem}; write real or synthetic (r or s).")
        place = rater, int(number)
        if place in places:
            raise ReviewError(
                f"{where}: {rater} answered image {number} already in {places[place]}. Keep one of them, or "
                "give the raters different names."
            )
        places[place] = where
        given.setdefault(rater, {})[int(number)] = _ANSWERS[answer]
    if not rows:
        raise ReviewError(f"{path}: holds no answers. Fill in the lines below the first.")
