"""Mixtures of prompts side by side, on images and real ones that none of them was fitted to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from evaluation.classifier.probe import NotConvergedError, fit_probe
from evaluation.estimate import Estimate, Status
from evaluation.inference.paired import compare
from evaluation.metrics.frechet import RELIABLE_FROM as FRECHET_RELIABLE_FROM
from evaluation.metrics.frechet import frechet_distance
from evaluation.metrics.mmd import RELIABLE_FROM
from promptopt.portfolio.mixture import FloatArray, PortfolioError, check_prompt_features, rbf
from promptopt.scoring.objective import RealPool

REPLICATES = 1_000
_FRECHET_REPLICATES = 100
_DRAWS = 10  # samples of a mixture that a value is the mean of, where it has no closed form
_PROBE_DRAWS = 5
_INTERVAL_FROM = 4  # images

METRICS = ("mmd", "frechet", "synthetic_to_real")

Weights = Mapping[str, float]


@dataclass(frozen=True)
class MixtureComparison:
    """`estimates`: mixture -> metric -> value. `differences`: the first minus each other, by metric."""

    estimates: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Mapping[str, Estimate]]


def compare_mixtures(
    mixtures: Mapping[str, Weights],
    features: Mapping[str, ArrayLike],
    *,
    held_out: RealPool,
    training_negatives: ArrayLike,
    bandwidth: float,
    seed: int,
    metrics: Sequence[str] = METRICS,
    level: float = 0.95,
) -> MixtureComparison:
    """Measure mixtures of prompts on the same seeds, and the first one minus each of the others.

    - ``mmd``: MMD^2 of the weighted images, unbiased; interval by a bootstrap over seeds and real images
      that leaves out pairs of one image with its own copy (they would bias it).
    - ``frechet``: mean over samples of n images, n the number of seeds: each seed's image is that of one
      prompt, drawn by weight, the same draws for every mixture. So all are compared at n images, as the
      distance falls with their number. Interval by a bootstrap over seeds, the real images held fixed.
    - ``synthetic_to_real``: accuracy on the real images of a probe trained on such a sample against
      `training_negatives`, mean over samples; interval over the real images, the probes held fixed.

    Args:
        mixtures: name -> prompt -> share.
        features: prompt -> features, shape (n, d); row s of every prompt is of the same seed.
        held_out: real images that no weight was fitted to; the positives are the ones to resemble.
        training_negatives: features of real images without the category, shape (m, d).
        bandwidth: of the kernel.
        seed: of the draws and the bootstrap.
        metrics: which of the three.

    Returns:
        no interval below four images; ``unreliable`` where the metric is so at this number of images.

    Raises:
        PortfolioError: no mixture, an unknown prompt, shares that do not sum to 1, or unusable features.
    """
    rows = check_prompt_features(features, same_seeds=True)
    shares = _shares(mixtures, list(features))
    stack = np.stack(rows)
    real = np.asarray(held_out.positives, dtype=np.float64)
    streams = np.random.SeedSequence([seed, 0x906F]).spawn(3)
    draws, boots, frechets = (np.random.default_rng(stream) for stream in streams)
    samples = _permutations(draws, _DRAWS, stack.shape[1])
    columns: dict[str, Callable[[], _Columns]] = {
        "mmd": lambda: _mmd(shares, stack, real, bandwidth=bandwidth, rng=boots, level=level),
        "frechet": lambda: _frechet(shares, stack, real, samples=samples, rng=frechets, level=level),
        "synthetic_to_real": lambda: _synthetic_to_real(
            shares,
            stack,
            samples[:_PROBE_DRAWS],
            held_out=held_out,
            negatives=np.asarray(training_negatives, dtype=np.float64),
            seed=seed,
            level=level,
        ),
    }
    found = [columns[metric]() for metric in metrics]
    names = list(mixtures)
    return MixtureComparison(
        {
            name: {metric: own[i] for metric, (own, _) in zip(metrics, found, strict=True)}
            for i, name in enumerate(names)
        },
        {
            name: {metric: gaps[i] for metric, (_, gaps) in zip(metrics, found, strict=True)}
            for i, name in enumerate(names[1:])
        },
    )


_Columns = tuple[list[Estimate], list[Estimate]]  # one a mixture; the first minus each other


def _shares(mixtures: Mapping[str, Weights], prompts: list[str]) -> FloatArray:
    if not mixtures:
        raise PortfolioError("mixtures: none given")
    shares = np.zeros((len(mixtures), len(prompts)))
    for row, (name, weights) in zip(shares, mixtures.items(), strict=True):
        for prompt, share in weights.items():
            if prompt not in prompts:
                raise PortfolioError(f"mixture {name!r}: there are no features of {prompt!r}")
            row[prompts.index(prompt)] = share
        if row.min() < 0 or abs(row.sum() - 1) > 1e-6:
            raise PortfolioError(
                f"mixture {name!r}: the shares sum to {row.sum():g}; make them 0 or more, sum 1"
            )
    return shares


def _mmd(
    shares: FloatArray,
    stack: FloatArray,
    real: FloatArray,
    *,
    bandwidth: float,
    rng: np.random.Generator,
    level: float,
) -> _Columns:
    k, n, width = stack.shape
    m = len(real)
    flat = stack.reshape(k * n, width)
    among = rbf(flat, flat, bandwidth=bandwidth).reshape(k, n, k, n)
    across = rbf(flat, real, bandwidth=bandwidth).reshape(k, n, m)
    own = np.array([np.einsum("i,isjt,j->st", w, among, w, optimize=True) for w in shares])
    other = np.einsum("ai,isr->asr", shares, across)
    reals = rbf(real, real, bandwidth=bandwidth)
    own[:, np.arange(n), np.arange(n)] = 0.0
    np.fill_diagonal(reals, 0.0)

    def values(seeds: FloatArray, images: FloatArray) -> FloatArray:
        """(mixtures, replicates), for how often each seed and each real image was drawn."""
        pairs = n * n - (seeds**2).sum(axis=1)
        real_pairs = m * m - (images**2).sum(axis=1)
        term = np.einsum("rs,ast,rt->ar", seeds, own, seeds, optimize=True) / pairs
        cross = np.array([((seeds @ g) * images).sum(axis=1) for g in other]) / (n * m)
        constant = ((images @ reals) * images).sum(axis=1) / real_pairs
        return np.asarray(term - 2 * cross + constant)

    value = values(np.ones((1, n)), np.ones((1, m)))[:, 0]
    method = f"RBF-MMD^2 of the weighted images, bandwidth {bandwidth:.6g}"
    status: Status = "ok" if min(n, m) >= RELIABLE_FROM else "unreliable"
    if min(n, m) < _INTERVAL_FROM:
        return _columns(value, None, n, method, status, level)
    seeds = rng.multinomial(n, np.full(n, 1 / n), size=REPLICATES).astype(np.float64)
    images = rng.multinomial(m, np.full(m, 1 / m), size=REPLICATES).astype(np.float64)
    usable = ((seeds > 0).sum(axis=1) > 1) & ((images > 0).sum(axis=1) > 1)
    drawn = values(seeds[usable], images[usable])
    return _columns(value, drawn, n, f"{method}; bootstrap over seeds and real images", status, level)


def _permutations(rng: np.random.Generator, count: int, n: int) -> FloatArray:
    """(count, n): a place in (0, 1) for every seed, evenly spread, in random order."""
    return np.array([(rng.permutation(n) + 0.5) / n for _ in range(count)])


def _sample(shares: FloatArray, stack: FloatArray, places: FloatArray) -> FloatArray:
    """One image a seed: of the prompt in whose share the seed's place lies."""
    ends = np.cumsum(shares)
    prompts = np.minimum(np.searchsorted(ends, places * ends[-1], side="right"), np.flatnonzero(shares)[-1])
    return stack[prompts, np.arange(stack.shape[1])]


def _frechet(
    shares: FloatArray,
    stack: FloatArray,
    real: FloatArray,
    *,
    samples: FloatArray,
    rng: np.random.Generator,
    level: float,
) -> _Columns:
    n = stack.shape[1]

    def value(sample: FloatArray) -> float:
        found = frechet_distance(sample, real, level=None).value
        return float("nan") if found is None else found  # no NaN with two images or more

    values = np.array([np.mean([value(_sample(row, stack, places)) for places in samples]) for row in shares])
    method = f"Fréchet distance, mean over {len(samples)} samples of {n} images"
    status: Status = "ok" if min(n, len(real)) >= FRECHET_RELIABLE_FROM else "unreliable"
    if n < _INTERVAL_FROM:
        return _columns(values, None, n, method, status, level)
    drawn = np.empty((len(shares), _FRECHET_REPLICATES))
    for r in range(_FRECHET_REPLICATES):
        chosen, places = rng.integers(n, size=n), _permutations(rng, 1, n)[0]
        for a, row in enumerate(shares):
            drawn[a, r] = value(_sample(row, stack[:, chosen], places))
    own, gaps = _columns(values, drawn, n, f"{method}; bootstrap over seeds, reals held fixed", status, level)
    # a distance is not below 0
    return [replace(one, low=None if one.low is None else max(one.low, 0.0)) for one in own], gaps


def _columns(
    values: FloatArray, drawn: FloatArray | None, n: int, method: str, status: Status, level: float
) -> _Columns:
    def one(value: float, replicates: FloatArray | None, what: str) -> Estimate:
        if replicates is None:
            return Estimate(value, None, None, n, what, status)
        from scipy.special import stdtrit

        # The spread alone is taken from the replicates: a bootstrap's center is off for biased distances.
        half = float(stdtrit(n - 1, (1 + level) / 2)) * float(replicates.std(ddof=1))
        return Estimate(value, value - half, value + half, n, what, status)

    own = [one(float(v), None if drawn is None else drawn[a], method) for a, v in enumerate(values)]
    gaps = [
        one(
            float(values[0] - values[a]),
            None if drawn is None else drawn[0] - drawn[a],
            f"paired difference: {method}",
        )
        for a in range(1, len(values))
    ]
    return own, gaps


def _synthetic_to_real(
    shares: FloatArray,
    stack: FloatArray,
    samples: FloatArray,
    *,
    held_out: RealPool,
    negatives: FloatArray,
    seed: int,
    level: float,
) -> _Columns:
    truth = held_out.labels
    labels = np.repeat([True, False], [stack.shape[1], len(negatives)])
    method = f"synthetic-to-real accuracy, mean over {len(samples)} samples of {stack.shape[1]} images"
    right: list[FloatArray | None] = []
    for row in shares:
        scores = []
        for places in samples:
            rows = np.concatenate([_sample(row, stack, places), negatives])
            try:
                probe = fit_probe(rows, labels, seed=seed)
            except NotConvergedError:
                break
            scores.append((probe.log_odds(held_out.features) > 0) == truth)
        right.append(np.mean(scores, axis=0) if len(scores) == len(samples) else None)
    lost = Estimate.undefined(len(truth), f"{method}; a probe did not converge")
    own = [
        lost
        if score is None
        else _share(Estimate.of_mean(score, level=level, method=f"{method}; over real images"))
        for score in right
    ]
    first = right[0]
    gaps = [
        lost
        if first is None or score is None
        else replace(
            compare(first, score, level=level), method=f"paired difference: {method}; over real images"
        )
        for score in right[1:]
    ]
    return own, gaps


def _share(estimate: Estimate) -> Estimate:
    """The interval of a share cut to 0 to 1."""
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))
