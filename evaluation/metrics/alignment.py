"""How clearly an image shows its category, by fixed texts of the categories and of what it must not be.

Images are scored against fixed category texts, never against the prompt that made them: an optimizer would
otherwise win by editing the text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import normalized
from evaluation.encoders.base import TextEncoder
from evaluation.estimate import Estimate
from promptopt.base.errors import ArgumentError


@dataclass(frozen=True, eq=False)
class ClassWeights:
    """One unit vector a class in an encoder's space.

    Attributes:
        names: the classes, in the order of the rows.
        matrix: shape (classes, dim), float64, rows of length 1, read-only.
        logit_scale: what cosines are multiplied by before a softmax.
        prefix: what was put before each text.
        truncated: the texts that the encoder did not read to their end, prefix included.

    Example:
        >>> import numpy as np
        >>> weights = ClassWeights(("polyp", "snare"), np.eye(2), 5.0)
        >>> margins([[0.9, 0.1]], weights, target="polyp").shape
        (1,)
    """

    names: tuple[str, ...]
    matrix: NDArray[np.float64]
    logit_scale: float
    prefix: str = ""
    truncated: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.names) != len(self.matrix) or len(set(self.names)) != len(self.names):
            raise ArgumentError(
                f"{len(self.matrix)} rows for the classes {self.names}; expected one each, all different"
            )
        self.matrix.setflags(write=False)


CLIPSCORE_PREFIX = "A photo depicts "
"""What Hessel et al. (2021) put before a text."""

_CACHE_SIZE = 64
_Key = tuple[str, str, tuple[tuple[str, tuple[str, ...]], ...]]
_cache: OrderedDict[_Key, ClassWeights] = OrderedDict()
_lock = Lock()


def class_weights(
    encoder: TextEncoder, texts: Mapping[str, Sequence[str]], *, prefix: str = ""
) -> ClassWeights:
    """Average each class's texts in the encoder's space (Radford et al. 2021: each scaled to 1, then the
    mean).

    The last 64 results are kept in memory, by the encoder's fingerprint and the texts. Texts that are longer
    than the encoder reads are counted in `ClassWeights.truncated`, and warned of by the encoder.

    Args:
        encoder: a text encoder.
        texts: for each class, one or more texts in several wordings; distractors are classes like any other.
        prefix: put before each text; `CLIPSCORE_PREFIX` for CLIPScore as published.

    Raises:
        ValueError: no class, a class without texts, or texts that cancel out.
    """
    for name, wordings in texts.items():
        if isinstance(wordings, str) or len(wordings) == 0:
            raise ArgumentError(f"class {name!r} has the texts {wordings!r}; expected a list of one or more")
    if not texts:
        raise ArgumentError("no classes; give at least the category and one distractor")
    key = (encoder.fingerprint, prefix, tuple((name, tuple(lines)) for name, lines in texts.items()))
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    flat = [prefix + text for wordings in texts.values() for text in wordings]
    truncated = tuple(text for text in flat if encoder.count_tokens(text) > encoder.context_length)
    units = normalized(encoder.encode_texts(flat), "text features")
    ends = np.cumsum([len(wordings) for wordings in texts.values()])[:-1]
    means = np.stack([part.mean(axis=0) for part in np.split(units, ends)])
    weights = ClassWeights(
        tuple(texts), normalized(means, "mean text features"), float(encoder.logit_scale), prefix, truncated
    )
    with _lock:
        _cache[key] = weights
        while len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
    return weights


def cosines(features: ArrayLike, weights: ClassWeights) -> NDArray[np.float64]:
    """Cosine of each image with each class, shape (n, classes)."""
    unit = normalized(features, "features")
    if unit.shape[1] != weights.matrix.shape[1]:
        raise ArgumentError(
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
        raise ArgumentError(f"target {target!r} is not one of the classes {', '.join(weights.names)}")
    if len(weights.names) < 2:
        raise ArgumentError(
            f"{target!r} is the only class; add the other categories and distractors to compare with"
        )
    logits = weights.logit_scale * cosines(features, weights)
    column = weights.names.index(target)
    return logits[:, column] - logsumexp(np.delete(logits, column, axis=1), axis=1)


def probabilities(features: ArrayLike, weights: ClassWeights) -> NDArray[np.float64]:
    """Softmax over the classes, shape (n, classes), rows that sum to 1."""
    from scipy.special import softmax

    return softmax(weights.logit_scale * cosines(features, weights), axis=1)


def clip_scores(features: ArrayLike, weights: ClassWeights) -> NDArray[np.float64]:
    """CLIPScore of each image with each class, ``2.5 max(cosine, 0)``, shape (n, classes), 0 to 2.5.

    Clipped image by image (Hessel et al. 2021), not after averaging. As published only when the weights were
    made with ``prefix=CLIPSCORE_PREFIX``.
    """
    return 2.5 * np.maximum(cosines(features, weights), 0.0)


@dataclass(frozen=True)
class Alignment:
    """How well a set of images shows one class; `clip_score` and `margin` derive from the raw cosines.

    Example:
        >>> import numpy as np
        >>> weights = ClassWeights(("polyp", "snare"), np.eye(2), 5.0)
        >>> shown = alignment([[0.9, 0.1], [0.8, 0.2]], weights, target="polyp")
        >>> round(shown.cosine.value, 2), shown.margin.value > 0
        (0.98, True)
    """

    margin: Estimate
    cosine: Estimate
    clip_score: Estimate


def alignment(
    features: ArrayLike,
    weights: ClassWeights,
    *,
    target: str,
    clip_score_weights: ClassWeights | None = None,
    level: float = 0.95,
) -> Alignment:
    """Mean margin, raw cosine and CLIPScore of the target class over a set of images, with t intervals.

    Args:
        features: image features of the encoder that made the weights, shape (n, dim).
        weights: of two classes or more.
        target: name of the class that the images should show.
        clip_score_weights: weights with ``prefix=CLIPSCORE_PREFIX``; without them CLIPScore is taken from
            `weights`. Its `method` states the prefix either way.
        level: coverage of the intervals.

    Returns:
        each ``undefined`` for no image and ``unreliable`` for one.

    Raises:
        ValueError: as `margins`.
    """
    own = margins(features, weights, target=target)
    column = cosines(features, weights)[:, weights.names.index(target)]
    prefixed = weights if clip_score_weights is None else clip_score_weights
    if target not in prefixed.names:
        raise ArgumentError(f"target {target!r} is not one of the classes {', '.join(prefixed.names)}")
    scores = clip_scores(features, prefixed)[:, prefixed.names.index(target)]
    said = f"prefix {prefixed.prefix!r}" if prefixed.prefix else "no prefix"
    others = len(weights.names) - 1
    return Alignment(
        margin=Estimate.of_mean(own, level=level, method=f"log-odds margin against {others} classes, mean"),
        cosine=Estimate.of_mean(
            column, level=level, method="cosine with the mean of the class's texts, mean"
        ),
        clip_score=Estimate.of_mean(scores, level=level, method=f"CLIPScore 2.5 max(cos, 0), {said}, mean"),
    )
