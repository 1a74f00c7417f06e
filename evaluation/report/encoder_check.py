"""May an encoder judge these images at all? A probe on its features against one on 8 x 8 thumbnails."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import check_features
from evaluation.classifier.probe import NotConvergedError, fit_standardized
from evaluation.encoders.base import Encoder
from evaluation.encoders.thumbnail import ThumbnailEncoder
from evaluation.estimate import Estimate, check_level
from evaluation.features.feature_store import FeatureStore
from promptopt.base.errors import ArgumentError, PromptoptError

TOLERANCE = 0.01
"""What an encoder's probe may do worse than thumbnails by, however sure it is, without being refused."""
MOST_IMAGES = 1000
"""Real images that the check uses; of more, a seeded sample."""
_FOLDS = 5
_FEWEST_GROUPS = 4  # of a class, for any comparison
_METHOD = "balanced accuracy of a probe, {} folds of groups, interval over groups"

_KEPT = 32  # checks in memory, the latest
_known: dict[bytes, EncoderCheck] = {}

Verdict = Literal["better", "unclear", "worse", "unknown"]


class WeakEncoderError(PromptoptError, ValueError):
    """On the user's real images an encoder does worse than thumbnails, so it may not judge others."""


@dataclass(frozen=True)
class EncoderCheck:
    """Two linear probes on the same real images, cross-validated in the same folds.

    Attributes:
        encoder, thumbnails: balanced accuracy (the mean of the classes' recalls) of each.
        difference: the encoder's minus the thumbnails', paired by image.
        classes: how many are told apart.
        verdict: ``better``: the whole interval of the difference is above 0, or both probes are right on
            99 % and more; ``worse``: it is below 0, and the difference below -`TOLERANCE`; ``unclear``:
            neither; ``unknown``: too few images to compare.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> labels = ["polyp", "normal"] * 40
        >>> good = rng.normal(size=(80, 3)) + 3 * np.array([[label == "polyp"] for label in labels])
        >>> compare_probes(good, rng.normal(size=(80, 3)), labels).verdict
        'better'
    """

    encoder: Estimate
    thumbnails: Estimate
    difference: Estimate
    classes: int
    verdict: Verdict

    def sentence(self, uri: str, *, images: str = "your real images") -> str:
        """What the check says, in plain words.

        Args:
            uri: the encoder's address.
            images: what the real images are called.
        """
        if self.verdict == "unknown":
            return (
                f"Whether the encoder {uri} knows {images} better than 8x8 thumbnails do could not be "
                f"checked: {self.difference.method}."
            )
        figures = (
            f"a probe on the features of the encoder {uri} is right on {_percent(self.encoder)} of {images}, "
            f"one on 8x8 thumbnails on {_percent(self.thumbnails)} (cross-validated, "
            f"{self.classes} classes, {self.difference.n} images)"
        )
        if self.verdict == "better":
            return f"{figures[0].upper()}{figures[1:]}."
        if self.verdict == "worse":
            return f"The encoder does worse than thumbnails: {figures}. It may not judge these images."
        return (
            f"The encoder is not shown to do better than thumbnails: {figures}. Distrust what it measures; "
            "another encoder may know these images."
        )


def check_encoder(
    encoder: Encoder,
    paths: Sequence[str | Path],
    labels: Sequence[str],
    *,
    store: FeatureStore,
    groups: Sequence[str] | None = None,
    most: int = MOST_IMAGES,
    seed: int = 0,
) -> EncoderCheck:
    """Whether the encoder tells the classes of real images better than thumbnails of 8 x 8 pixels do.

    Args:
        encoder: any.
        paths: real images.
        labels: class of each.
        store: of features; those of a study's images are there afterwards.
        groups: near-duplicates share one and stay in one fold; without it every image is its own.
        most: images used at most; of more, a sample with as many of each class as there are.
        seed: of the sample and the folds.
    """
    rows = _sample(labels, most, seed)
    own = [paths[i] for i in rows]
    features = [store.features(one, own) for one in (encoder, ThumbnailEncoder())]
    names = [labels[i] for i in rows]
    grouped = None if groups is None else [groups[i] for i in rows]
    digest = hashlib.sha256(repr((names, grouped, seed)).encode())
    for matrix in features:
        digest.update(matrix.tobytes())
    key = digest.digest()
    if key not in _known:  # several measurements of one set ask the same
        _known[key] = compare_probes(features[0], features[1], names, groups=grouped, seed=seed)
        while len(_known) > _KEPT:
            del _known[next(iter(_known))]
    return _known[key]


def compare_probes(
    features: ArrayLike,
    thumbnails: ArrayLike,
    labels: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> EncoderCheck:
    """Cross-validate a probe on each of two sets of features of the same images.

    Args:
        features: (n, d), of the encoder; thumbnails: (n, t).
        labels: class of each image.
        groups: whose members are never split between training and test; by default each image is its own.
        seed: of the folds.
        level: coverage of the intervals: normal, with the variance over groups.

    Raises:
        ValueError: shapes or lengths that do not fit.
    """
    check_level(level)
    matrices = check_features(features, "features"), check_features(thumbnails, "thumbnails")
    truth = np.asarray(labels, dtype=object)
    if not len(truth) == len(matrices[0]) == len(matrices[1]):
        raise ArgumentError(
            f"{len(matrices[0])} and {len(matrices[1])} rows for {len(truth)} labels; give one row a label"
        )
    own = np.asarray(np.arange(len(truth)) if groups is None else groups, dtype=object)
    names, codes = np.unique(truth.astype(str), return_inverse=True)
    _, places = np.unique(own.astype(str), return_inverse=True)
    per_class = [len(np.unique(places[codes == code])) for code in range(len(names))]
    if len(names) < 2 or min(per_class) < _FEWEST_GROUPS:
        reason = "they are all of one class"
        if len(names) >= 2:
            rare = int(np.argmin(per_class))
            reason = f"there are only {per_class[rare]} groups of images of {names[rare]}"
        return _unknown(len(truth), len(names), reason)
    folds = min(_FOLDS, *per_class)
    try:
        right = [_right(x, codes, places, folds=folds, seed=seed) for x in matrices]
    except NotConvergedError as error:
        return _unknown(len(truth), len(names), str(error))
    method = _METHOD.format(folds)
    estimates = [_balanced(one, codes, places, level, method) for one in (*right, right[0] - right[1])]
    return EncoderCheck(estimates[0], estimates[1], estimates[2], len(names), _verdict(*estimates))


def _right(
    x: NDArray[np.float64], codes: NDArray[np.intp], groups: NDArray[np.intp], *, folds: int, seed: int
) -> NDArray[np.float64]:
    """1 for each image whose class is read rightly by a probe that has not seen its group, else 0."""
    from sklearn.model_selection import StratifiedGroupKFold

    right = np.zeros(len(x))
    for train, test in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(x, codes, groups):
        if len(np.unique(codes[train])) < 2:
            continue  # nothing to learn from: its images count as wrong, for either encoder
        model, mean, scale = fit_standardized(x[train], codes[train], seed=seed, strength=1.0)
        right[test] = model.predict((x[test] - mean) / scale) == codes[test]
    return right


def _balanced(
    values: NDArray[np.float64],
    codes: NDArray[np.intp],
    groups: NDArray[np.intp],
    level: float,
    method: str,
) -> Estimate:
    """Mean over classes of the mean over their images; normal interval from the sums of groups."""
    from scipy.stats import norm

    sizes = np.bincount(codes)
    means = np.bincount(codes, weights=values) / sizes
    parts = (values - means[codes]) / (len(sizes) * sizes[codes])
    sums = np.bincount(groups, weights=parts)
    count = len(sums)
    half = float(norm.ppf((1 + level) / 2)) * math.sqrt(float(np.sum(sums**2)) * count / (count - 1))
    value = float(means.mean())
    return Estimate(value, value - half, value + half, len(values), method, "ok")


def _verdict(encoder: Estimate, thumbnails: Estimate, difference: Estimate) -> Verdict:
    low, high = difference.low or 0.0, difference.high or 0.0
    if low > 0 or min(encoder.value or 0.0, thumbnails.value or 0.0) >= 0.99:
        return "better"
    return "worse" if high < 0 and (difference.value or 0.0) < -TOLERANCE else "unclear"


def _sample(labels: Sequence[str], most: int, seed: int) -> list[int]:
    if len(labels) <= most:
        return list(range(len(labels)))
    order = np.random.default_rng([seed, 0xE7C]).permutation(len(labels)).tolist()
    of_class: dict[str, list[int]] = {}
    for row in order:
        of_class.setdefault(labels[row], []).append(row)
    # round by round one of each class: the rare ones whole, the others evenly
    rounds = ((turn, row) for rows in of_class.values() for turn, row in enumerate(rows))
    return sorted(row for _, row in sorted(rounds)[:most])


def _unknown(n: int, classes: int, reason: str) -> EncoderCheck:
    nothing = Estimate.undefined(n, reason)
    return EncoderCheck(nothing, nothing, nothing, classes, "unknown")


def _percent(estimate: Estimate) -> str:
    return f"{100 * (estimate.value or 0.0):.1f} %"
