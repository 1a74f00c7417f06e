"""A few prompts with weights whose images, mixed, come nearest to the real ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from evaluation.metrics.mmd import median_bandwidth
from promptopt.portfolio.distance import word_distances
from promptopt.portfolio.mixture import FloatArray, MixtureForm, PortfolioError, mixture_form

ENUMERATED = 5_000
"""Most sets of prompts that are all tried; with more, one prompt after the other is added."""

CAUTION = 2.0
"""Default of `Portfolio.fit`; chosen on planted mixtures (scripts/bench/portfolio.py --planted)."""


LEAST_SHARE = 0.05
"""Default least share of a chosen prompt."""

_STEPS = 10_000


@dataclass(frozen=True)
class Portfolio:
    """Prompts and their shares in a mixture.

    Attributes:
        weights: prompt -> share, above 0, sum 1, in steps of 1 / 10,000, largest first.
        mmd: MMD^2 of the mixture on the images that it was fitted to: too good to be true. Compare on others.
        objective: what was minimized: `mmd` plus the allowance for sampling error.
        alone: prompt -> the same objective for each prompt that was allowed, by itself.
        left_out: prompt -> why it could not be chosen, or not beside those that were.
        method: how the prompts were chosen, in words.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> images = {"a red polyp": rng.normal(0, 1, (40, 2)), "a snare": rng.normal(4, 1, (40, 2))}
        >>> Portfolio.fit(images, rng.normal(0, 1, (60, 2))).weights
        {'a red polyp': 1.0}
    """

    weights: Mapping[str, float]
    mmd: float
    objective: float
    alone: Mapping[str, float]
    left_out: Mapping[str, str] = field(default_factory=dict)
    method: str = ""

    @classmethod
    def fit(
        cls,
        features: Mapping[str, ArrayLike],
        reference: ArrayLike,
        *,
        size: int = 4,
        bandwidth: float | None = None,
        min_distance: float = 0.0,
        distances: ArrayLike | None = None,
        alignment: Mapping[str, float] | None = None,
        alignment_floor: float | None = None,
        same_seeds: bool = True,
        min_share: float = LEAST_SHARE,
        caution: float = CAUTION,
    ) -> Portfolio:
        """Choose at most `size` prompts and the weights that minimize MMD^2 of their mixture to `reference`.

        The unbiased estimate of MMD^2 alone favors prompts that were lucky in the few images drawn. So
        `caution` times the expected squared error of the mixture's sampled embedding is added: a ridge that
        shrinks as 1 / images, weighs prompts with varied images more, and spreads weight over prompts whose
        errors differ. With caution 1 this is the MMD^2 of the drawn images themselves (the V-statistic).
        From 1 on the problem is convex. It is solved exactly, as the point nearest to the origin in the hull
        of the embeddings' differences from the real one, by SciPy's non-negative least squares.

        All sets of `size` prompts that are far enough apart are tried if there are at most 5,000; else the
        prompt that helps most is added, and the weights solved again, until none helps.

        Args:
            features: prompt -> features of its images, shape (n, d). Earlier prompts win ties.
            reference: features of real images, shape (m, d).
            size: most prompts to choose, 1 or more.
            bandwidth: of the Gaussian kernel; the median distance in `reference` when not given.
            min_distance: least distance between two chosen prompts.
            distances: shape (k, k), in the order of `features`, say from `sentence_distances`;
                `word_distances` of the prompts when not given.
            alignment: prompt -> alignment, needed with a floor.
            alignment_floor: prompts whose alignment is below are out.
            same_seeds: row s of every prompt is of the same seed.
            min_share: sets in which a prompt would get less are passed over. What is added for sampling error
                gives a little weight even to prompts that are like no real image.
            caution: 1 or more.

        Raises:
            PortfolioError: nothing to choose from, fewer than two images of a prompt, or a wrong argument.
            ValueError: features of wrong shape, or not finite.

        Example:
            >>> import numpy as np
            >>> rng = np.random.default_rng(0)
            >>> def around(x, n): return rng.normal((x, 0.0), 0.3, (n, 2))
            >>> real = np.concatenate([around(-2, 140), around(2, 60)])
            >>> made = {"left": around(-2, 64), "right": around(2, 64), "off": around(9, 64)}
            >>> found = Portfolio.fit(made, real)
            >>> {prompt: round(weight, 1) for prompt, weight in found.weights.items()}
            {'left': 0.7, 'right': 0.3}
        """
        if size < 1:
            raise PortfolioError(f"size is {size}; a portfolio holds one prompt or more")
        if not 0 <= min_share <= 1:
            raise PortfolioError(f"min_share is {min_share!r}; a share is from 0 to 1")
        if not (math.isfinite(caution) and caution >= 1):
            raise PortfolioError(
                f"caution is {caution!r}; below 1 the problem is not convex, so give 1 or more"
            )
        width = median_bandwidth(reference) if bandwidth is None else bandwidth
        form = mixture_form(features, reference, bandwidth=width, same_seeds=same_seeds)
        prompts = list(features)
        left_out = _below_floor(prompts, alignment, alignment_floor)
        allowed = [i for i, prompt in enumerate(prompts) if prompt not in left_out]
        if not allowed:
            raise PortfolioError(
                f"alignment_floor is {alignment_floor}: all {len(prompts)} prompts are below it. Lower it"
            )
        apart = _apart(prompts, distances, min_distance)
        points = _points(form, caution)
        subsets = math.comb(len(allowed), min(size, len(allowed)))
        if subsets <= ENUMERATED:
            found = _best(points, _far_sets(allowed, size, apart), min_share)
            method = "every set of prompts tried"
        else:
            found = _greedy(points, allowed, size, apart, min_share)
            method = "prompts added one by one, weights solved again each time"
        assert found is not None  # one prompt alone always qualifies
        chosen, weights = found
        whole = np.zeros(len(prompts))
        whole[chosen] = _in_steps(weights)
        for i in allowed:
            near = [j for j in chosen if i not in chosen and not apart[i, j]]
            if near:
                left_out[prompts[i]] = f"nearer than {min_distance:g} to {prompts[near[0]]!r}"
        order = sorted((i for i in chosen if whole[i] > 0), key=lambda i: (-whole[i], i))
        unit = np.eye(len(prompts))
        return cls(
            weights={prompts[i]: float(whole[i]) for i in order},
            mmd=form.mmd(whole),
            objective=form.cautious(whole, caution=caution),
            alone={prompts[i]: form.cautious(unit[i], caution=caution) for i in allowed},
            left_out=left_out,
            method=f"{method}; non-negative least squares; caution {caution:g}, least share {min_share:g}",
        )


def _in_steps(weights: FloatArray) -> FloatArray:
    """Shares in steps of 1 / 10,000, sum 1: finer ones would be noise."""
    steps = np.round(weights * _STEPS)
    steps[int(np.argmax(steps))] += _STEPS - steps.sum()
    return np.asarray(steps / _STEPS)


def _below_floor(
    prompts: Sequence[str], alignment: Mapping[str, float] | None, floor: float | None
) -> dict[str, str]:
    if floor is None:
        return {}
    missing = [prompt for prompt in prompts if prompt not in (alignment or {})]
    if alignment is None or missing:
        raise PortfolioError(
            f"alignment: no value for {missing[0]!r}; a floor needs the alignment of every prompt"
        )
    return {
        prompt: f"alignment {alignment[prompt]:.3g} below the floor {floor:g}"
        for prompt in prompts
        if not alignment[prompt] >= floor
    }


def _apart(prompts: Sequence[str], distances: ArrayLike | None, least: float) -> FloatArray:
    found = word_distances(prompts) if distances is None else np.asarray(distances, dtype=np.float64)
    if found.shape != (len(prompts), len(prompts)):
        raise PortfolioError(f"distances have shape {found.shape}; expected one row and column a prompt")
    # equal prompts may come out a rounding error apart
    return np.asarray(np.maximum(found, found.T) >= least - 1e-9)


def _points(form: MixtureForm, caution: float) -> FloatArray:
    """Columns whose inner products are those of the embeddings' differences from the real one.

    On weights that sum to 1, w'Kw - 2 w'm + c = w'(K - m1' - 1m' + c)w.
    """
    kernel = form.within + caution * form.error
    products = kernel - form.across[:, None] - form.across[None, :] + form.real_self
    values, vectors = np.linalg.eigh(products)
    return np.asarray(np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T)


def _nearest(points: FloatArray) -> FloatArray:
    """Weights of the point nearest to the origin in the hull of the columns.

    The minimum of |P v|^2 + (1'v - 1)^2 over v >= 0 lies along them: for a given sum of v the first term
    alone decides.
    """
    from scipy.optimize import nnls

    k = points.shape[1]
    size = math.sqrt(float(np.mean(np.sum(points**2, axis=0))))
    if size == 0.0 or k == 1:  # all at the real embedding, or nothing to share
        return np.full(k, 1.0 / k)
    stacked = np.vstack([points / size, np.ones(k)])
    found, _ = nnls(stacked, np.append(np.zeros(len(points)), 1.0))
    return np.asarray(found / found.sum())


def _far_sets(allowed: Sequence[int], size: int, apart: FloatArray) -> Iterator[tuple[int, ...]]:
    # Smaller sets too: the distance may forbid every larger one that holds them.
    for count in range(min(size, len(allowed)), 0, -1):
        for chosen in itertools.combinations(allowed, count):
            if all(apart[i, j] for i, j in itertools.combinations(chosen, 2)):
                yield chosen


def _best(
    points: FloatArray, sets: Iterator[tuple[int, ...]], least: float
) -> tuple[list[int], FloatArray] | None:
    """The set whose mixture is nearest, among those in which every prompt used has the least share."""
    found: tuple[float, list[int], FloatArray] | None = None
    for chosen in sets:
        weights = _nearest(points[:, chosen])
        if np.any((weights > 0) & (weights < least)):
            continue
        value = float(np.sum((points[:, chosen] @ weights) ** 2))
        if found is None or value < found[0] - 1e-12:
            found = value, list(chosen), weights
    return None if found is None else found[1:]


def _greedy(
    points: FloatArray, allowed: Sequence[int], size: int, apart: FloatArray, least: float
) -> tuple[list[int], FloatArray] | None:
    chosen: list[int] = []
    found: tuple[list[int], FloatArray] | None = None
    value = math.inf
    while len(chosen) < size:
        free = [i for i in allowed if i not in chosen and all(apart[i, j] for j in chosen)]
        grown = _best(points, ((*chosen, i) for i in free), least)
        if grown is None:
            break
        gained = float(np.sum((points[:, grown[0]] @ grown[1]) ** 2))
        if gained >= value - 1e-12:
            break
        found, value, chosen = grown, gained, grown[0]
    return found
