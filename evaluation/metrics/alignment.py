"""How clearly an image shows its category, by fixed texts of the categories and of what it must not be.

Images are scored against fixed category texts, never against the prompt that made them: an optimiser would
otherwise win by editing the text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.encoders.backend import TextEncoder
from evaluation.metrics._checks import normalised


@dataclass(frozen=True, eq=False)
class ClassWeights:
    """One unit vector a class in an encoder's space.

    Attributes:
        names: the classes, in the order of the rows.
        matrix: shape (classes, dim), float64, rows of length 1, read-only.
        logit_scale: what cosines are multiplied by before a softmax.
    """

    names: tuple[str, ...]
    matrix: NDArray[np.float64]
    logit_scale: float

    def __post_init__(self) -> None:
        if len(self.names) != len(self.matrix) or len(set(self.names)) != len(self.names):
            raise ValueError(
                f"{len(self.matrix)} rows for the classes {self.names}; expected one each, all different"
            )
        self.matrix.setflags(write=False)


_CACHE_SIZE = 64
_cache: OrderedDict[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], ClassWeights] = OrderedDict()
_lock = Lock()


def class_weights(encoder: TextEncoder, texts: Mapping[str, Sequence[str]]) -> ClassWeights:
    """Average each class's texts in the encoder's space (Radford et al. 2021: each scaled to 1, then the
    mean).

    The last 64 results are kept in memory, by the encoder's fingerprint and the texts.

    Args:
        encoder: a text encoder.
        texts: for each class, one or more texts in several wordings; distractors are classes like any other.

    Raises:
        ValueError: no class, a class without texts, or texts that cancel out.
    """
    for name, wordings in texts.items():
        if isinstance(wordings, str) or len(wordings) == 0:
            raise ValueError(f"class {name!r} has the texts {wordings!r}; expected a list of one or more")
    if not texts:
        raise ValueError("no classes; give at least the category and one distractor")
    key = (encoder.fingerprint, tuple((name, tuple(wordings)) for name, wordings in texts.items()))
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    flat = [text for wordings in texts.values() for text in wordings]
    units = normalised(encoder.encode_texts(flat), "text features")
    ends = np.cumsum([len(wordings) for wordings in texts.values()])[:-1]
    means = np.stack([part.mean(axis=0) for part in np.split(units, ends)])
    weights = ClassWeights(tuple(texts), normalised(means, "mean text features"), float(encoder.logit_scale))
    with _lock:
        _cache[key] = weights
        while len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
    return weights


def cosines(features: ArrayLike, weights: ClassWeights) -> NDArray[np.float64]:
    """Cosine of each image with each class, shape (n, classes)."""
    unit = normalised(features, "features")
    if unit.shape[1] != weights.matrix.shape[1]:
        raise ValueError(
            f"features have {unit.shape[1]} columns and the class weights {weights.matrix.shape[1]}; "
            "both must come from the same encoder"
        )
    return unit @ weights.matrix.T


def margins(features: ArrayLike, weights: ClassWeights, *, target: str) -> NDArray[np.float64]:
    """Log-odds of the target against all other classes together: ``logit_t - logsumexp(other logits)``.

    Equals ``log(p / (1 - p))`` of the softmax probability p, without its saturation near 0 and 1.

    Args:
        features: image features of the same encoder, shape (n, dim).
        weights: of two classes or more.
        target: name of the class that the images should show.

    Returns:
        shape (n,), float64; higher is better, above 0 when the target outweighs all the rest.

    Raises:
        ValueError: unknown target, a single class, or features that are not finite or all zeros.
    """
    from scipy.special import logsumexp

    if target not in weights.names:
        raise ValueError(f"target {target!r} is not one of the classes {', '.join(weights.names)}")
    if len(weights.names) < 2:
        raise ValueError(
            f"{target!r} is the only class; add the other categories and distractors to compare with"
        )
    logits = weights.logit_scale * cosines(features, weights)
    column = weights.names.index(target)
    return logits[:, column] - logsumexp(np.delete(logits, column, axis=1), axis=1)


def probabilities(features: ArrayLike, weights: ClassWeights) -> NDArray[np.float64]:
    """Softmax over the classes, shape (n, classes), rows that sum to 1."""
    from scipy.special import softmax

    return softmax(weights.logit_scale * cosines(features, weights), axis=1)
