"""From images to numbers: per-image contributions, metrics, and the score against the baseline."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from evaluation.classifier.probe import Probe, synthetic_to_real
from evaluation.estimate import Estimate
from evaluation.inference.paired import compare
from evaluation.metrics import alignment
from evaluation.metrics.diversity import diversity
from evaluation.metrics.duplicates import duplicates
from evaluation.metrics.frechet import frechet_distance
from evaluation.metrics.inception_score import inception_score
from evaluation.metrics.kid import kid
from evaluation.metrics.mmd import median_bandwidth, mmd, mmd_contributions
from promptopt.config.study_file import ScoreWeights, StudyError
from promptopt.space import Candidate

if TYPE_CHECKING:
    from PIL import Image

    from evaluation.classifier.judge import Judge
    from evaluation.encoders.base import Encoder
    from evaluation.features.feature_store import FeatureStore
    from generators.store import StoredImage

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

SIGNS = {"alignment": 1.0, "utility": 1.0, "distance": -1.0}  # distance: less is better
# Features may differ in their last float32 digits between batch sizes. The score is rounded far above that,
# so that such noise cannot send the search another way.
_DECIMALS = 4
_MOST_REAL = 1000  # real images that calibrate the radius of near-duplicates
RESERVED = (
    *SIGNS,
    "score",
    "judge",
    "mmd",
    "kid",
    "frechet",
    "diversity",
    "duplicates",
    "copies",
    "preference",
)


@dataclass(frozen=True)
class RealPool:
    """Real images to compare with: features of the positives and of the others."""

    positives: np.ndarray
    negatives: np.ndarray

    @property
    def features(self) -> np.ndarray:
        """All of them, positives first, (n, dim)."""
        return np.concatenate([self.positives, self.negatives])

    @property
    def labels(self) -> np.ndarray:
        """True for a positive, (n,)."""
        return np.arange(len(self.positives) + len(self.negatives)) < len(self.positives)


@dataclass(frozen=True)
class Measurement:
    """One prompt's images, measured. Arrays are in the order of the seeds."""

    candidate: Candidate
    images: tuple[StoredImage, ...]
    per_image: Mapping[str, FloatArray]
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Score:
    """The score of one prompt: `estimate` is the mean of `per_image`, in baseline SDs.

    Attributes:
        gains: each term's per-image difference from the baseline in its SDs, more being better, not weighted.
    """

    estimate: Estimate
    per_image: FloatArray
    gains: Mapping[str, FloatArray] = field(default_factory=dict)


class PromptOpinion(Protocol):
    """What experts think of a prompt, as a term of the score."""

    def __call__(self, candidate: Candidate, slots: Mapping[str, str] | None = None, /) -> Estimate:
        """The prompt's value in log-odds against the baseline; the slots serve where nobody has seen it."""
        ...


@dataclass(frozen=True)
class ImageMetric:
    """A user-defined term of the score: a number for every image.

    Attributes:
        name: also of its column in the tables; letters, digits, `_` and `-`.
        function: images -> one finite number each.
        weight: its share in the score, in SDs of the baseline's images as the other terms are.
        greater_is_better: False where less is better.
        version: change it with the function, so that an older run is not mistaken for this one.

    Example:
        >>> import numpy as np
        >>> bright = ImageMetric("brightness", lambda images: [np.asarray(i).mean() for i in images])
        >>> bright.name, bright.weight
        ('brightness', 1.0)
    """

    name: str
    function: Callable[[Sequence[Image.Image]], ArrayLike]
    weight: float = 1.0
    greater_is_better: bool = True
    version: str = "1"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name) or self.name in RESERVED:
            raise StudyError(
                f"metric {self.name!r}: the name must be of letters, digits, '_' and '-', and none of "
                f"{', '.join(RESERVED)}."
            )
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise StudyError(f"metric {self.name!r}: weight {self.weight!r}; give a number from 0 on.")

    def __call__(self, images: Sequence[Image.Image]) -> FloatArray:
        """One number an image, (n,). Raises StudyError for another number of values, or one not finite."""
        values = np.asarray(self.function(images), dtype=np.float64)
        if values.shape != (len(images),) or not np.isfinite(values).all():
            raise StudyError(
                f"metric {self.name!r}: for {len(images)} images it gave {values.shape} values, "
                f"{int((~np.isfinite(values)).sum())} of them not finite. Return one finite number an image."
            )
        return values


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Measures prompts in one encoder against one set of real images.

    Attributes:
        opinion: what experts think of a prompt; one number for all its images, added to the score.
        class_weights: text classifier over fixed texts (never the candidate prompt); None for an encoder
            without texts, which then has no alignment.
        target: the class that the images should show.
        probe: linear probe trained on the real reference pool; None without real images.
        distance_to: features of the real positives that the generated images should resemble; may be none.
        training_negatives: real negatives for the probe trained on synthetic positives.
        held_out: real images that this probe is tested on; the test pool in confirmation.
    """

    encoder: Encoder
    features: FeatureStore
    class_weights: alignment.ClassWeights | None
    target: str
    probe: Probe | None
    distance_to: np.ndarray
    bandwidth: float
    training_negatives: np.ndarray
    held_out: RealPool
    weights: ScoreWeights
    seed: int
    judge: Judge | None = None
    judge_target: str | None = None
    metrics: tuple[ImageMetric, ...] = ()
    opinion: PromptOpinion | None = None
    opinion_weight: float = 0.0

    def terms(self) -> dict[str, tuple[float, float]]:
        """Sign and weight of each term that counts, by name."""
        found = {name: (sign, float(getattr(self.weights, name))) for name, sign in SIGNS.items()}
        if self.class_weights is None:
            del found["alignment"]
        found |= {m.name: (1.0 if m.greater_is_better else -1.0, m.weight) for m in self.metrics}
        return {name: pair for name, pair in found.items() if pair[1] > 0}

    @property
    def has_real(self) -> bool:
        """Whether there are real images to compare with."""
        return self.probe is not None

    def contributions(self, features: np.ndarray) -> dict[str, FloatArray]:
        """What each image adds to the terms of the score, (n,) each, from its features."""
        found: dict[str, FloatArray] = {}
        if self.probe is not None:
            found = {
                "utility": np.asarray(self.probe.log_odds(features), dtype=np.float64),
                "distance": mmd_contributions(features, self.distance_to, bandwidth=self.bandwidth),
            }
        if self.class_weights is None:
            return found
        return {"alignment": alignment.margins(features, self.class_weights, target=self.target), **found}

    def measure(
        self, candidate: Candidate, images: Sequence[StoredImage], *, choice: Mapping[str, str] | None = None
    ) -> Measurement:
        """Features, per-image contributions and metrics of one prompt's images.

        Args:
            choice: the prompt's slots, where known; experts' opinion of a prompt they never saw needs them.
        """
        own = self.features.features(self.encoder, images)
        per_image = self.contributions(own)
        if self.metrics:
            pictures = [image.load() for image in images]
            per_image |= {metric.name: metric(pictures) for metric in self.metrics}
        plain = [name for name in per_image if name != "distance"]
        estimates = {
            **{name: Estimate.of_mean(per_image[name]) for name in plain},
            **(self._beside_real(own) if self.has_real else {"diversity": diversity(own)}),
        }
        if self.opinion is not None:
            estimates["preference"] = self.opinion(candidate, choice)
        if self.judge is not None:
            reading = self.judge.read([image.load() for image in images])
            names = list(self.judge.names["category"])
            right = reading.category_probabilities.argmax(axis=1) == names.index(str(self.judge_target))
            per_image["judge"] = right.astype(np.float64)
            estimates["judge_accuracy"] = Estimate.of_proportion(int(right.sum()), len(right))
            probabilities = reading.kind_probabilities
        elif self.class_weights is not None:
            probabilities = alignment.probabilities(own, self.class_weights)
        else:
            return Measurement(candidate, tuple(images), per_image, estimates)
        estimates["inception_score"] = inception_score(probabilities, splits=1, seed=self.seed)
        return Measurement(candidate, tuple(images), per_image, estimates)

    def _beside_real(self, own: np.ndarray) -> dict[str, Estimate]:
        return {
            "mmd": mmd(own, self.distance_to, bandwidth=self.bandwidth),
            "kid": kid(own, self.distance_to),
            "frechet": frechet_distance(own, self.distance_to),
            "diversity": diversity(own),
            "duplicates": duplicates(own, self.distance_to[:_MOST_REAL]).share,
            "synthetic_to_real": synthetic_to_real(
                own,
                self.training_negatives,
                val_features=self.held_out.features,
                val_labels=self.held_out.labels,
                seed=self.seed,
            ),
        }

    def score(self, candidate: Measurement, baseline: Measurement) -> Score:
        """Weighted sum of the differences from the baseline on the same seeds, in the baseline's SDs.

        Args:
            candidate: of as many images as the baseline, or of the first ones of its seeds.

        Raises:
            StudyError: the baseline's images are all alike in some term, so it has no unit.
        """
        count = len(candidate.images)
        total, gains = np.zeros(count), {}
        for name, (sign, weight) in self.terms().items():
            reference = baseline.per_image[name]
            unit = float(np.std(reference, ddof=1))
            if unit <= 1e-9 * max(1.0, float(np.abs(reference).max())):
                raise StudyError(
                    f"the baseline prompt {baseline.candidate.label!r} gives {len(reference)} images "
                    f"that are all equal in {name}, so differences have no unit. Check the generator, or set "
                    f"score.{name} to 0."
                )
            gain = sign * (candidate.per_image[name] - reference[:count]) / unit
            gains[name] = np.round(gain, _DECIMALS)
            total += weight * gain
        opinion = candidate.estimates.get("preference")
        if opinion is not None and opinion.value is not None:
            total += self.opinion_weight * opinion.value
        total = np.round(total, _DECIMALS)
        return Score(Estimate.of_mean(total), total, gains)

    @staticmethod
    def difference(first: Score, other: Score) -> Estimate:
        """`first` minus `other`, paired by seed."""
        return compare(first.per_image, other.per_image)


def study_bandwidth(positives: np.ndarray, baseline: np.ndarray) -> float:
    """Kernel width of a study, the same for every prompt: the larger of two median distances.

    One is among the real positives, the other from them to the images of the baseline. With the first alone,
    images further from the reals than these are from each other lie where the kernel is flat: their distances
    are all the same, and the SD of these, the unit of the score, is next to nothing.

    Args:
        positives: features of real images, shape (m, dim).
        baseline: features of the baseline prompt's images, shape (n, dim).
    """
    from scipy.spatial.distance import cdist

    across = cdist(np.asarray(baseline, dtype=np.float64), np.asarray(positives, dtype=np.float64))
    return max(median_bandwidth(positives), float(np.median(across)))
