"""How many prompts: chosen on real images that the weights were not fitted to."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.estimate import Estimate
from promptopt.search.sets.embeddings import FloatArray, Form
from promptopt.search.sets.weights import Problem

FOLDS = 5


@dataclass(frozen=True, eq=False)
class SizeChoice:
    """What was seen of each number of prompts.

    Attributes:
        sizes: the numbers tried, ascending.
        held_out: closeness to real images that were held out, one Estimate a size: MMD^2 without the term of
            the real images alone, so that only differences mean something; standard error over real images.
        fitted: the same on the images that the weights were fitted to: too good to be true.
        chosen: the largest size within one standard error of the best. Not the smallest: what a further
            prompt brings to a classifier is more than what the distance shows of it.
    """

    sizes: tuple[int, ...]
    held_out: tuple[Estimate, ...]
    fitted: tuple[float, ...]
    chosen: int


def choose_size(form: Form, problem: Problem, *, most: int, seed: int = 0) -> SizeChoice:
    """Try sets of 1 to `most` prompts by cross-validation over the real images.

    For each fold the path of growing sets is found from the other real images; what is held out says how near
    each set comes. The rule of one standard error (Breiman et al. 1984) is applied to paired differences from
    the best size, over groups of real images: ten frames of one lesion say little more than one.

    Args:
        form: of all measured prompts; the real images of one of its groups stay in one fold.
        problem: of the same; its quadratic and linear terms and its floor are used.
        most: largest set, 1 or more.
        seed: of the folds.
    """
    m = form.per_real.shape[1]
    fold_of = _folds(list(range(m)) if form.groups is None else list(form.groups), seed)
    paths: list[list[FloatArray]] = []
    for fold in range(int(fold_of.max()) + 1):
        seen = form.over_reals(np.flatnonzero(fold_of != fold))
        paths.append(problem.over(seen).path(most))
    longest = max(len(path) for path in paths)
    sizes = tuple(range(1, longest + 1))
    quadratic = form.ridged(real=0.0)  # the same images chose the weights, so their errors count here too
    held = np.zeros((longest, m))
    fitted = np.zeros(longest)
    for fold, path in enumerate(paths):
        rows = fold_of == fold
        for place in range(longest):
            w = path[min(place, len(path) - 1)]
            own = float(w @ quadratic @ w + w @ problem.linear)
            near = w @ form.per_real
            held[place, rows] = own - 2 * near[rows]
            fitted[place] += (own - 2 * float(near[~rows].mean())) / len(paths)
    best = int(held.mean(axis=1).argmin())
    gaps = held - held[best]
    sums = form.group_sums(gaps)
    count = sums.shape[1]
    errors = np.sqrt((sums**2).sum(axis=1) * count / max(count - 1, 1)) / m
    chosen = max(i for i in range(longest) if i == best or gaps[i].mean() <= errors[i])
    method = f"MMD^2 to real images held out ({len(paths)} folds), less the real images' own term"
    return SizeChoice(
        sizes,
        tuple(Estimate.of_mean(row, method=method) for row in held),
        tuple(float(value) for value in fitted),
        sizes[chosen],
    )


def _folds(groups: Sequence[Hashable], seed: int) -> np.ndarray:
    """The fold of each image: groups in random order, each into the smallest fold so far."""
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    names = list(members)
    order = np.random.default_rng([seed, 0x512E]).permutation(len(names))
    count = min(FOLDS, len(names))
    sizes, found = np.zeros(count, dtype=np.int64), np.empty(len(groups), dtype=np.int64)
    for place in sorted(order.tolist(), key=lambda i: -len(members[names[i]])):
        fold = int(sizes.argmin())
        found[members[names[place]]] = fold
        sizes[fold] += len(members[names[place]])
    return found
