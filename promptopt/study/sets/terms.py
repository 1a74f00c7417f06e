"""The linear terms of a set's objective: what an image does besides coming near to the real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.classifier.probe import Probe
from evaluation.influence.accuracy_influence import synthetic_probe
from evaluation.influence.frechet_influence import FrechetInfluence
from evaluation.influence.inception_influence import InceptionInfluence
from evaluation.influence.probe_gain import ProbeGain
from evaluation.metrics import alignment
from evaluation.metrics.mmd import gaussian_kernel
from promptopt.config.sets import SetScore
from promptopt.search.sets.embeddings import FloatArray
from promptopt.space import Candidate

NAMES = ("margin", "gain", "frechet", "inception_score", "accuracy")
"""Terms in SDs of the baseline's images. `contrast` is in the unit of the closeness as it is."""
_DECIMALS = 6


@dataclass(frozen=True, eq=False)
class RealImages:
    """Features and labels of all classes' real images in one pool, (n, d) and (n,)."""

    features: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class CurrentSet:
    """Images of a class's set: features (n, d) and the weight of each, sum 1."""

    features: np.ndarray
    weights: np.ndarray


Sets = Mapping[str, CurrentSet]


@dataclass(frozen=True, eq=False, kw_only=True)
class TermBook:
    """Per-image values of the terms of one class, more being better.

    Args:
        label: the class.
        score: the weights.
        class_weights: of the category's texts in the encoder; None for an encoder without texts.
        target: the category's name there.
        probe: of the class against the others, trained on real images: the margin where there are no texts.
        training, validation: real images of all classes.
        reference: features of this class's real images, (m, d).
        sets: the current sets of all classes, asked for anew each time.
        reals: features of the real images that every class's set is fitted to.
        bandwidth: of the Gaussian kernel.
    """

    label: str
    score: SetScore
    class_weights: alignment.ClassWeights | None
    target: str
    probe: Probe
    training: RealImages
    validation: RealImages
    reference: np.ndarray
    sets: Callable[[], Sets]
    reals: Callable[[], Mapping[str, np.ndarray]]
    bandwidth: float

    @property
    def used(self) -> tuple[str, ...]:
        """Terms with a weight above 0."""
        return tuple(name for name in NAMES if getattr(self.score, name) > 0)

    def contrast(self, features: np.ndarray) -> FloatArray:
        """Twice the mean of the other classes' witnesses, (n,): high where their sets err as this image does.

        With e_c the error of class c (mean embedding of its set less that of its real images), the objective
        ``(1 - c) |e|^2 + c |e - e'|^2`` is ``|e|^2 - 2 c <e, e'>`` up to what does not depend on this class:
        an error that the classes share teaches a classifier nothing, one that tells them apart misleads it.
        """
        sets, reals = self.sets(), self.reals()
        kernel = gaussian_kernel(self.bandwidth)
        others = [label for label in sets if label != self.label and len(sets[label].features)]
        total = np.zeros(len(features))
        for label in others:
            crowd = kernel(features, sets[label].features) @ sets[label].weights
            total += crowd - kernel(features, reals[label]).mean(axis=1)
        return np.round(2 * total / max(1, len(others)), _DECIMALS)

    def margin(self, features: np.ndarray) -> FloatArray:
        """Log-odds of the category, (n,)."""
        if self.class_weights is None:
            return np.asarray(self.probe.log_odds(features), dtype=np.float64)
        return np.asarray(alignment.margins(features, self.class_weights, target=self.target))

    def values(self, name: str, features: np.ndarray) -> FloatArray:
        """One term of images under the current sets, (n,)."""
        return np.round(getattr(self, f"_{name}")(features), _DECIMALS)

    def _margin(self, features: np.ndarray) -> FloatArray:
        return self.margin(features)

    def _gain(self, features: np.ndarray) -> FloatArray:
        probe = ProbeGain.fit(
            self.training.features,
            self.training.labels,
            self.validation.features,
            self.validation.labels,
            **self._synthetic(),
        )
        return np.asarray(probe.gains(features, self.label))

    def _accuracy(self, features: np.ndarray) -> FloatArray:
        synthetic = self._synthetic()
        if set(np.unique(synthetic.get("synthetic_labels", []))) < set(np.unique(self.training.labels)):
            return np.zeros(len(features))  # some class has no set yet
        probe = synthetic_probe(
            synthetic["synthetic_features"],
            synthetic["synthetic_labels"],
            self.validation.features,
            self.validation.labels,
            synthetic_weights=synthetic["synthetic_weights"],
        )
        return np.asarray(probe.gains(features, self.label))

    def _frechet(self, features: np.ndarray) -> FloatArray:
        own = self.sets().get(self.label)
        if own is None or len(own.features) < 2:
            return np.zeros(len(features))
        fitted = FrechetInfluence.fit(own.features, self.reference, weights=own.weights)
        return np.asarray(-fitted.influence(features))

    def _inception_score(self, features: np.ndarray) -> FloatArray:
        own = self.sets().get(self.label)
        if own is None or self.class_weights is None:
            return np.zeros(len(features))
        probabilities = alignment.probabilities(own.features, self.class_weights)
        fitted = InceptionInfluence.fit(probabilities, weights=own.weights)
        return np.asarray(fitted.influence(alignment.probabilities(features, self.class_weights)))

    def _synthetic(self) -> dict[str, Any]:
        sets = {label: own for label, own in self.sets().items() if len(own.features)}
        if not sets:
            return {}
        return {
            "synthetic_features": np.concatenate([own.features for own in sets.values()]),
            "synthetic_labels": np.repeat(list(sets), [len(own.features) for own in sets.values()]),
            "synthetic_weights": np.concatenate([own.weights for own in sets.values()]),
            "synthetic_weight": float(len(self.training.features)) / max(1, len(sets)),
        }


class LinearPart:
    """t of every image: minus the weighted terms, in the unit of the closeness.

    Each term is divided by the SD over the baseline's images of its first values, and multiplied by that of
    the closeness, so that weights mean the same as they do in a study of single prompts.

    Args:
        features: of the images measured, asked for by prompt.
        baseline: the plain prompt.
    """

    def __init__(
        self,
        book: TermBook,
        *,
        features: Callable[[], Mapping[Candidate, np.ndarray]],
        baseline: Candidate,
        closeness_unit: Callable[[], float],
    ) -> None:
        self._book = book
        self._features = features
        self._baseline = baseline
        self._closeness_unit = closeness_unit
        self._units: dict[str, float] = {}

    def __call__(self, weights: Mapping[Candidate, float]) -> dict[Candidate, FloatArray]:
        """One array a prompt."""
        known = self._features()
        stacked = np.concatenate(list(known.values()))
        ends = np.cumsum([len(rows) for rows in known.values()])[:-1]
        total = np.zeros(len(stacked))
        for name in self._book.used:
            values = self._book.values(name, stacked)
            own = dict(zip(known, np.split(values, ends), strict=True))
            unit = self._units.get(name, 0.0)
            if unit == 0.0:
                unit = float(np.std(own[self._baseline], ddof=1))
                if unit > 1e-9 * max(1.0, float(np.abs(own[self._baseline]).max())):
                    self._units[name] = unit
                else:  # no spread yet, such as a term that needs a set
                    continue
            total -= getattr(self._book.score, name) * values / unit
        total *= self._closeness_unit() / self._book.score.closeness
        if self._book.score.contrast > 0:
            total -= self._book.score.contrast * self._book.contrast(stacked)
        return dict(zip(known, np.split(np.round(total, _DECIMALS), ends), strict=True))
