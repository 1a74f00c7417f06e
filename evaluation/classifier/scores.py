"""What a classifier's probabilities are worth on labeled images, for one weighting of them or for many.

Every score is a function of the images' weights, so that a bootstrap replicate is a row of weights and the
score itself the row of ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.metrics.auroc import weighted_auroc
from promptopt.base.errors import ArgumentError

METRICS = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "auroc", "ece")
ECE_BINS = 15
_CHUNK = 4_000_000  # weights in memory at a time

Array = NDArray[np.float64]


def classifier_scores(
    truth: ArrayLike, probabilities: ArrayLike, *, classes: Sequence[str], weights: ArrayLike | None = None
) -> dict[str, Array]:
    """Scores under each row of weights.

    ``accuracy``, ``balanced_accuracy`` (mean of the classes' recalls), ``macro_precision``,
    ``macro_recall`` (the same number as the balanced accuracy), ``macro_f1`` (mean of the classes' F1; 0 for
    a class never predicted, as in scikit-learn with ``zero_division=0``), ``recall:CLASS``, ``auroc`` (two
    classes: the usual area; more: mean over the classes of one against the rest; ties count half) and
    ``ece``, see `expected_calibration_error`.

    Args:
        truth: shape (n,), index of each image's class.
        probabilities: shape (n, k), rows sum to one; the prediction is the largest, the first of equals.
        classes: k names.
        weights: shape (b, n), 0 or more, every row with some weight in each class that occurs; None: ones.

    Returns:
        name -> shape (b,). All but ``accuracy``, ``ece`` and the recalls of classes that occur are left out
        when a class does not occur in `truth`; everything when there is no image.

    Raises:
        ValueError: shapes that do not fit, a class index out of range, or rows that are no distribution.
    """
    p = check_probabilities(probabilities)
    y = _check_truth(truth, p)
    n, k = p.shape
    if len(classes) != k:
        raise ArgumentError(
            f"{k} columns of probabilities and {len(classes)} classes; give one name for each"
        )
    w = np.ones((1, n)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.ndim != 2 or w.shape[1] != n:
        raise ArgumentError(f"weights has shape {w.shape}; expected (replicates, {n})")
    if n == 0:
        return {}
    rows = max(1, _CHUNK // n)
    parts = [_scores(y, p, w[start : start + rows], classes) for start in range(0, len(w), rows)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def expected_calibration_error(probabilities: ArrayLike, truth: ArrayLike, *, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the predicted class: mean gap between confidence and accuracy.

    The confidence is the largest probability; bins are equally wide on [0, 1], closed on the right (Guo et
    al. 2017, arXiv:1706.04599). In [0, 1], lower is better. It is biased upward on few images: the gap of a
    bin with m of them is about 1 / sqrt(m) by chance alone.

    Args:
        probabilities: shape (n, k); truth: shape (n,), class indices; one image or more.

    Raises:
        ValueError: no image, or the faults that `classifier_scores` refuses.
    """
    p = check_probabilities(probabilities)
    y = _check_truth(truth, p)
    if not len(y):
        raise ArgumentError("probabilities holds no image; the calibration error needs one or more")
    return float(_ece(y, p, np.ones((1, len(y))), bins)[0])


def confusion(truth: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Confusion matrices, shape (b, k, k): rows are true classes, columns predicted ones."""
    p = check_probabilities(probabilities)
    y = _check_truth(truth, p)
    w = np.ones((1, len(y))) if weights is None else np.asarray(weights, dtype=np.float64)
    return _confusion(y, p, w)


def check_probabilities(probabilities: ArrayLike) -> Array:
    """Probabilities as float64 (n, k), k of 2 or more, or a ValueError that names the bad row."""
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] < 2:
        raise ArgumentError(f"probabilities has shape {p.shape}; expected (images, two or more classes)")
    bad = np.flatnonzero(~((p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) < 1e-6)))
    if len(bad):
        raise ArgumentError(f"probabilities: row {bad[0]} is {p[bad[0]]}; expected 0 or more, with sum 1")
    return p


def _check_truth(truth: ArrayLike, p: Array) -> NDArray[np.int64]:
    y = np.asarray(truth)
    if y.shape != (len(p),) or (y.size and not np.issubdtype(y.dtype, np.integer)):
        raise ArgumentError(f"truth has shape {y.shape} and type {y.dtype}; expected {len(p)} class indices")
    if y.size and (y.min() < 0 or y.max() >= p.shape[1]):
        raise ArgumentError(f"truth holds {y.min()} to {y.max()}; expected class indices below {p.shape[1]}")
    return y.astype(np.int64)


def _scores(y: NDArray[np.int64], p: Array, w: Array, classes: Sequence[str]) -> dict[str, Array]:
    table = _confusion(y, p, w)
    hits = np.diagonal(table, axis1=1, axis2=2)
    true, predicted = table.sum(axis=2), table.sum(axis=1)
    occurs = np.bincount(y, minlength=len(classes)) > 0
    recall = _ratio(hits, true)
    scores = {"accuracy": hits.sum(axis=1) / true.sum(axis=1)}
    if occurs.all():
        scores["balanced_accuracy"] = recall.mean(axis=1)
        scores["macro_precision"] = _ratio(hits, predicted).mean(axis=1)
        scores["macro_recall"] = recall.mean(axis=1)
        scores["macro_f1"] = _ratio(2 * hits, true + predicted).mean(axis=1)
        # of two classes the second one's area equals the first one's
        chosen = [1] if len(classes) == 2 else range(len(classes))
        scores["auroc"] = np.mean([weighted_auroc(p[:, c], y == c, w) for c in chosen], axis=0)
    scores["ece"] = _ece(y, p, w, ECE_BINS)
    scores.update({f"recall:{name}": recall[:, c] for c, name in enumerate(classes) if occurs[c]})
    return scores


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def _confusion(y: NDArray[np.int64], p: Array, w: Array) -> Array:
    n, k = p.shape
    cell = np.zeros((n, k * k))
    cell[np.arange(n), y * k + p.argmax(axis=1)] = 1.0
    return (w @ cell).reshape(len(w), k, k)


def _ece(y: NDArray[np.int64], p: Array, w: Array, bins: int) -> Array:
    confidence = p.max(axis=1)
    right = p.argmax(axis=1) == y
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.zeros((len(y), bins))
    gap[np.arange(len(y)), place] = right - confidence
    return np.abs(w @ gap).sum(axis=1) / w.sum(axis=1)
