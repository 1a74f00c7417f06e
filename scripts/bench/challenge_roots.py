"""The challenge's Fréchet distances by SciPy's matrix root, as the scripts have it, and by singular values.

    python scripts/bench/challenge_roots.py [--seed 0]

Random features of the scripts' shapes: softmax rows of 1000 classes (2024), 10 images a prompt in 768
dimensions (2025). Printed: both values, their relative difference and how much longer the root takes.
"""

import argparse
import time

import numpy as np
import scipy
import scipy.linalg

from evaluation.challenge import gi2024, gi2025


def root_distance(a: np.ndarray, b: np.ndarray) -> float:
    """As the scripts compute it: means in the precision of the rows, covariances in float64."""
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(scipy.linalg.sqrtm(s @ t))
    return float(np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(s + t - 2 * root))


def softmax(rng: np.random.Generator, n: int, shift: float) -> np.ndarray:
    logits = rng.normal(size=(n, 1000)) * 1.5 + shift * np.linspace(-1, 1, 1000)
    rows = np.exp(logits)
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    rng = np.random.default_rng(parser.parse_args().seed)
    print(f"SciPy {scipy.__version__}\n")
    print("| case | matrix root | singular values | relative difference | time, root over ours |")
    print("|---|---|---|---|---|")
    for n, m in ((3000, 2500), (300, 200), (60, 40)):
        real, made = softmax(rng, n, 0.0), softmax(rng, m, 0.5)
        start = time.perf_counter()
        theirs = root_distance(real, made)
        middle = time.perf_counter()
        ours = gi2024.frechet(real, made).value
        show(f"2024, {n} against {m} images", theirs, ours, (middle - start) / (time.perf_counter() - middle))
    made, real = rng.normal(size=(40, 768)), rng.normal(size=(12, 768)) + 0.1
    start = time.perf_counter()
    theirs = 1000 / (1 + sum(root_distance(made[i : i + 10], real) for i in (0, 10)) / 2)
    middle = time.perf_counter()
    ours = gi2025.scores(made, real, [range(12)] * 4).fidelity
    ratio = (middle - start) / (time.perf_counter() - middle)
    show("2025 fidelity, 10 images against 12", theirs, ours, ratio)


def show(case: str, theirs: float, ours: float | None, ratio: float) -> None:
    if ours is None:
        raise SystemExit(f"{case}: no value")
    print(f"| {case} | {theirs:.9g} | {ours:.9g} | {abs(theirs / ours - 1):.1e} | {ratio:.0f} |", flush=True)


if __name__ == "__main__":
    main()
