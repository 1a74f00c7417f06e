"""The experts' choices as numbers: a value for every prompt, and how far the experts agree.

The values rest on the raters who took part: their intervals say what more comparisons by them would change,
not what other raters would say. For that there is the agreement.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.estimate import Estimate
from evaluation.inference.agreement import preference_kappa, rank_correlation
from promptopt.base.files import write_text
from promptopt.formatting.tables import csv_table
from promptopt.review.preference_model import Comparison, PreferenceModel, Slots
from promptopt.review.records import FOLDER, Choice, ReviewError, read_choices, records_path

if TYPE_CHECKING:
    from promptopt.run.images import RunImages
    from promptopt.space import Candidate

DOCUMENT = "preferences.json"
TABLE = "preferences.csv"
_FORMAT = "promptopt-preferences"
_OUTCOMES = {"left": 1.0, "right": 0.0, "same": 0.5, "unusable": 0.5}  # of the left prompt


@dataclass(frozen=True)
class PromptPreference:
    """One prompt: its value against the baseline in log-odds, and how its comparisons went."""

    label: str
    slots: Slots
    value: Estimate
    won: int
    lost: int
    same: int
    unusable: int
    score: float | None


@dataclass(frozen=True)
class Preferences:
    """What the experts said.

    Attributes:
        prompts: best first.
        by_rater: rater -> prompt -> value, from that rater's choices alone.
        agreement: pair of raters -> Cohen's kappa over the pairs of prompts that both judged.
        with_score: rank correlation of the values with the study's score; `with_score_by_rater` each one's.
        left: share of decided comparisons in which the left side won; far from a half, the side decided.
        choices: those that stand.
    """

    study: str
    category: str
    reference: str
    stage: str
    prompts: tuple[PromptPreference, ...]
    by_rater: Mapping[str, Mapping[str, Estimate]]
    agreement: Mapping[tuple[str, str], Estimate]
    with_score: Estimate
    with_score_by_rater: Mapping[str, Estimate]
    left: Estimate
    choices: tuple[Choice, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `PreferenceMetric` reads them."""
        return {
            "format": _FORMAT,
            "version": 1,
            "study": self.study,
            "category": self.category,
            "reference": self.reference,
            "images_of": self.stage,
            "unit": "log-odds of being chosen over the reference; 0.85 means 70 %",
            "prompts": [
                {
                    "prompt": p.label,
                    "slots": None if p.slots is None else dict(p.slots),
                    "value": p.value.to_dict(),
                    "won": p.won,
                    "lost": p.lost,
                    "same": p.same,
                    "unusable": p.unusable,
                    "score": p.score,
                }
                for p in self.prompts
            ],
            "by_rater": {
                rater: {label: e.to_dict() for label, e in values.items()}
                for rater, values in self.by_rater.items()
            },
            "agreement": [
                {"raters": list(pair), "kappa": kappa.to_dict()} for pair, kappa in self.agreement.items()
            ],
            "with_score": self.with_score.to_dict(),
            "with_score_by_rater": {r: e.to_dict() for r, e in self.with_score_by_rater.items()},
            "left_chosen": self.left.to_dict(),
            "comments": [
                {"rater": c.rater, "left": c.left, "right": c.right, "choice": c.choice, "comment": c.comment}
                for c in self.choices
                if c.comment
            ],
            "comparisons": [
                {"rater": c.rater, "left": c.left, "right": c.right, "choice": c.choice} for c in self.choices
            ],
        }


def preference_values(
    choices: Sequence[Choice],
    *,
    reference: str,
    slots: Mapping[str, Slots] | None = None,
    scores: Mapping[str, float] | None = None,
    study: str = "",
    category: str = "",
) -> Preferences:
    """Values and agreement from choices.

    Args:
        choices: at least one.
        reference: the prompt whose value is 0, as a rule the plain baseline.
        slots: of the prompts that have any; prompts that agree in slots share what is known of them.
        scores: of the study, to compare with.

    Raises:
        ReviewError: no choices.
    """
    if not choices:
        raise ReviewError(
            "no choices to go by. Hold a review first: promptopt review prefer RUN --rater NAME."
        )
    slots, scores = slots or {}, scores or {}
    model = PreferenceModel(_comparisons(choices), slots=slots)
    raters = sorted({choice.rater for choice in choices})
    by_rater: dict[str, dict[str, Estimate]] = {}
    for rater in raters:
        own = PreferenceModel(_comparisons([c for c in choices if c.rater == rater]), slots=slots)
        by_rater[rater] = {label: own.value(label, reference=reference) for label in own.prompts}
    won = Counter(choice.better for choice in choices)
    lost = Counter(choice.worse for choice in choices)
    same, unusable = (
        Counter(label for c in choices if c.choice == said for label in (c.left, c.right))
        for said in ("same", "unusable")
    )
    rows = [
        PromptPreference(
            label,
            slots.get(label),
            model.value(label, reference=reference),
            won[label],
            lost[label],
            same[label],
            unusable[label],
            scores.get(label),
        )
        for label in model.prompts
    ]
    values = {row.label: row.value for row in rows}
    decided = [choice for choice in choices if choice.better is not None]
    return Preferences(
        study=study,
        category=category,
        reference=reference,
        stage=choices[-1].stage,
        prompts=tuple(sorted(rows, key=lambda row: -(row.value.value or 0.0))),
        by_rater=by_rater,
        agreement={(a, b): _agreement(choices, a, b) for a, b in combinations(raters, 2)},
        with_score=_with_score(values, scores),
        with_score_by_rater={rater: _with_score(by_rater[rater], scores) for rater in raters},
        left=Estimate.of_proportion(sum(c.choice == "left" for c in decided), len(decided)),
        choices=tuple(choices),
    )


def write_preferences(images: RunImages) -> Preferences:
    """Compute the values of a run's choices and write RUN/review/preferences.json and preferences.csv."""
    from promptopt.review.candidates import known_prompts

    known = known_prompts(images)
    found = preference_values(
        read_choices(records_path(images.folder)),
        reference=images.baseline.label,
        slots={prompt.label: prompt.slots for prompt in known},
        scores={prompt.label: prompt.score for prompt in known if prompt.score is not None},
        study=images.name,
        category=str(images.settings["category"]["name"]),
    )
    folder = images.folder / FOLDER
    write_text(folder / TABLE, _table(found))
    write_text(
        folder / DOCUMENT, json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )
    return found


@dataclass(frozen=True)
class PreferenceMetric:
    """The experts' opinion as a term of a study's objective: one value a prompt, none an image.

    Attributes:
        reference: the prompt whose value is 0.
        fingerprint: sha256 of the choices; belongs into what a run may not change.
    """

    model: PreferenceModel
    reference: str
    fingerprint: str

    @classmethod
    def read(cls, path: str | Path) -> PreferenceMetric:
        """From a preferences.json, or the run folder that holds one.

        Raises:
            ReviewError: missing, or not such a file.
        """
        path = Path(path)
        if path.is_dir():
            path = path / FOLDER / DOCUMENT
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT or content["version"] != 1:
                raise ValueError(f"format {content['format']!r}, version {content['version']!r}")
            comparisons = [
                Comparison(c["left"], c["right"], _OUTCOMES[c["choice"]]) for c in content["comparisons"]
            ]
            slots = {p["prompt"]: p["slots"] for p in content["prompts"]}
            digest = hashlib.sha256(
                json.dumps([content["comparisons"], slots], sort_keys=True).encode()
            ).hexdigest()
            return cls(PreferenceModel(comparisons, slots=slots), content["reference"], digest)
        except OSError as error:
            raise ReviewError(
                f"{path}: cannot be read ({error.strerror or error}). Hold a review first: "
                "promptopt review prefer RUN --rater NAME."
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ReviewError(
                f"{path}: not a list of preferences ({type(error).__name__}: {error}). Write it anew: "
                "promptopt review values RUN."
            ) from error

    def __call__(self, candidate: Candidate, slots: Slots = None) -> Estimate:
        """The prompt's value against the reference in log-odds; see `PreferenceModel.value`.

        Args:
            candidate: a prompt of the study.
            slots: its slots, from which a prompt that nobody has seen gets its value.
        """
        return self.model.value(candidate.label, reference=self.reference, slots=slots)


def _comparisons(choices: Sequence[Choice]) -> list[Comparison]:
    return [Comparison(c.left, c.right, _OUTCOMES[c.choice]) for c in choices]


def _with_score(values: Mapping[str, Estimate], scores: Mapping[str, float]) -> Estimate:
    both = [
        (e.value, scores[label]) for label, e in values.items() if label in scores and e.value is not None
    ]
    return rank_correlation([a for a, _ in both], [b for _, b in both])


def _agreement(choices: Sequence[Choice], first: str, second: str) -> Estimate:
    """Kappa over the pairs of prompts that both judged; of a pair judged twice, what was said more often."""
    tallies: dict[str, dict[tuple[str, str], int]] = {first: defaultdict(int), second: defaultdict(int)}
    for choice in choices:
        if choice.rater in tallies:
            pair = (min(choice.left, choice.right), max(choice.left, choice.right))
            tallies[choice.rater][pair] += (
                0 if choice.better is None else (1 if choice.better == pair[0] else -1)
            )
    common = sorted(tallies[first].keys() & tallies[second].keys())
    verdicts = [[(t > 0) - (t < 0) for t in (tallies[r][p] for p in common)] for r in (first, second)]
    return preference_kappa(verdicts[0], verdicts[1])


def _table(found: Preferences) -> str:
    from scipy.special import expit

    heads = ["prompt", "chosen_over_reference", "won", "lost", "same", "unusable", "study_score"]
    rows = []
    for row in found.prompts:
        chance = None if row.value.value is None else float(expit(row.value.value))
        rows.append([row.label, chance, row.won, row.lost, row.same, row.unusable, row.score])
    return csv_table(heads, rows, [{"": row.value} for row in found.prompts])
