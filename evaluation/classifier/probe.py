"""A linear probe on cached features: the quick judge of what images are worth to a classifier."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import check_features, check_pair
from evaluation.estimate import Estimate, Status, check_level
from promptopt.base.errors import ArgumentError, PromptoptError


class NotConvergedError(PromptoptError, ValueError):
    """The probe's solver stopped before its optimum."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted logistic regression on standardized features.

    Attributes:
        mean, scale: shape (d,), of the training features; a constant feature has scale 1.
        coefficients: shape (d,), on standardized features.
        intercept: log-odds at the mean of the training features.

    Example:
        >>> import numpy as np
        >>> features = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> probe = fit_probe(features, [False, False, True, True], seed=0)
        >>> (probe.log_odds(features) > 0).tolist()
        [False, False, True, True]
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercept: float

    def log_odds(self, features: ArrayLike) -> NDArray[np.float64]:
        """Log-odds of the positive class, shape (n,), as if both classes were equally frequent.

        Raises:
            ValueError: features of another width, or not finite.
        """
        x = check_features(features, "features")
        if x.shape[1] != len(self.mean):
            raise ArgumentError(
                f"features have {x.shape[1]} columns, the probe was fitted on {len(self.mean)}; "
                "use the same encoder"
            )
        return ((x - self.mean) / self.scale) @ self.coefficients + self.intercept

    def accuracy(self, features: ArrayLike, labels: ArrayLike, *, level: float = 0.95) -> Estimate:
        """Share of images on the right side of log-odds 0, with Wilson's interval."""
        return accuracy(self.log_odds(features) > 0, labels, level=level)


def fit_probe(features: ArrayLike, labels: ArrayLike, *, seed: int, strength: float = 1.0) -> Probe:
    """Fit a logistic regression with an L2 penalty, both classes weighing the same in all.

    Args:
        features: shape (n, d).
        labels: shape (n,), booleans; two images or more of each class.
        seed: given to the solver (the present one, L-BFGS, draws nothing).
        strength: scikit-learn's ``C``, the inverse of the penalty's weight, on standardized features.

    Raises:
        ValueError: wrong shapes, labels that are not booleans, fewer than two images of a class, or no
            convergence.
    """
    x = check_features(features, "features")
    y = _labels(labels, len(x))
    positives = int(y.sum())
    if min(positives, len(y) - positives) < 2:
        raise ArgumentError(
            f"{positives} positive and {len(y) - positives} negative images; "
            "a probe needs two or more of each: "
            "add images of the missing class"
        )
    model, mean, scale = fit_standardized(x, y, seed=seed, strength=strength)
    return Probe(mean, scale, model.coef_[0].astype(np.float64), float(model.intercept_[0]))


def fit_standardized(
    x: NDArray[np.float64], truth: NDArray[Any], *, seed: int, strength: float
) -> tuple[Any, NDArray[np.float64], NDArray[np.float64]]:
    """scikit-learn's regression on ``(x - mean) / scale``, for two classes or more; returns all three.

    Raises:
        NotConvergedError: the solver stopped at its limit.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(axis=0), x.std(axis=0)
    # a feature that varies by rounding alone would be blown up to size 1
    scale = np.where(scale > 1e-12 * (np.abs(mean) + 1.0), scale, 1.0)
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit((x - mean) / scale, truth)
        except ConvergenceWarning as warning:
            raise NotConvergedError(
                f"the probe did not converge ({warning}); lower strength ({strength})"
            ) from warning
    return model, mean, scale


def accuracy(predicted: ArrayLike, labels: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Share of predictions that are right, with Wilson's interval; ``undefined`` for no image.

    Args:
        predicted, labels: shape (n,), booleans.
    """
    guesses = _labels(predicted, None, name="predicted")
    right = int(np.sum(guesses == _labels(labels, len(guesses))))
    return Estimate.of_proportion(right, len(guesses), level=level, method="accuracy, Wilson interval")


def balanced_accuracy(predicted: ArrayLike, labels: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean of the two classes' recalls.

    The interval joins the recalls' Wilson intervals by the method of variance estimates recovery (Zou and
    Donner 2008). ``undefined`` when a class has no image, ``unreliable`` when one has fewer than 10.
    """
    check_level(level)
    guesses = _labels(predicted, None, name="predicted")
    truth = _labels(labels, len(guesses))
    method = "balanced accuracy, MOVER-Wilson interval"
    parts = [
        Estimate.of_proportion(
            int(np.sum(guesses[truth == side] == side)), int(np.sum(truth == side)), level=level
        )
        for side in (False, True)
    ]
    recalls, lows, highs = [], [], []
    for part in parts:
        if part.value is None or part.low is None or part.high is None:
            return Estimate.undefined(len(guesses), method)
        recalls.append(part.value)
        lows.append(part.value - part.low)
        highs.append(part.high - part.value)
    value = sum(recalls) / 2
    low, high = value - math.hypot(*lows) / 2, value + math.hypot(*highs) / 2
    status: Status = "ok" if all(part.status == "ok" for part in parts) else "unreliable"
    return Estimate(value, low, high, len(guesses), method, status)


def synthetic_to_real(
    synthetic: ArrayLike,
    negatives: ArrayLike,
    *,
    val_features: ArrayLike,
    val_labels: ArrayLike,
    seed: int,
    level: float = 0.95,
) -> Estimate:
    """Accuracy on real validation images of a probe trained on synthetic positives against real negatives.

    Args:
        synthetic: features of the generated images of the category, shape (n, d).
        negatives: features of real images without it, shape (m, d), two or more.
        val_features: features of real validation images, shape (v, d).
        val_labels: shape (v,), booleans; both classes must occur, or the accuracy would reward a constant
            answer.
        seed: of the probe.
        level: coverage of the interval, which is for new validation images with the probe as it is.

    Returns:
        the accuracy with Wilson's interval, n = v; ``undefined`` (n = 0) for fewer than two synthetic images.

    Raises:
        ValueError: fewer than two negatives, one-sided validation labels, or wrong features.
    """
    positives, others = check_pair(synthetic, negatives, names=("synthetic", "negatives"))
    method = "synthetic-to-real accuracy, Wilson interval"
    validation = check_features(val_features, "val_features")
    truth = _labels(val_labels, len(validation), name="val_labels")
    if len(others) < 2:
        raise ArgumentError(
            f"{len(others)} real negatives; a probe needs two or more: widen the negative categories"
        )
    if truth.all() or not truth.any():
        raise ArgumentError(
            f"the {len(truth)} validation images are all of one class; "
            "add real images of the other to the pool"
        )
    if len(positives) < 2:
        return Estimate.undefined(0, method)
    labels = np.repeat([True, False], [len(positives), len(others)])
    probe = fit_probe(np.concatenate([positives, others]), labels, seed=seed)
    right = int(np.sum((probe.log_odds(validation) > 0) == truth))
    return Estimate.of_proportion(right, len(truth), level=level, method=method)


def _labels(labels: ArrayLike, n: int | None, *, name: str = "labels") -> NDArray[np.bool_]:
    array = np.asarray(labels)
    if array.size == 0:
        array = array.astype(bool)
    if array.ndim != 1 or (n is not None and len(array) != n):
        raise ArgumentError(f"{name} has shape {array.shape}; expected {('n' if n is None else n,)}")
    if array.dtype != np.bool_:
        raise ArgumentError(f"{name} holds {array.dtype} values; expected booleans, say category == 'polyps'")
    return array
