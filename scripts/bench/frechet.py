"""How fast and how exact the Fréchet distance is, and what streaming statistics costs.

    python scripts/bench/frechet.py [--dim 2048] [--few 64] [--many 5000] [--stream 100000]

Speed is a ratio within this run; set OMP_NUM_THREADS before it to bound the threads. The references are the
textbook's two ways: scipy.linalg.sqrtm, and the eigenvalues of the product of the covariances. Where both
sets have full rank and the eigenvalues are sound, the values are compared: with an eighth of the features
against both ways, with all features against the product's eigenvalues from LAPACK's symmetric-definite
solver.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg

from evaluation import FeatureStatistics, frechet_distance


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(axis=0), np.cov(x, rowvar=False)


def textbook(a: np.ndarray, b: np.ndarray, trace_of_root: Callable[[np.ndarray], float]) -> float:
    (mean_a, s), (mean_b, t) = moments(a), moments(b)
    return float(np.sum((mean_a - mean_b) ** 2) + np.trace(s) + np.trace(t) - 2 * trace_of_root(s @ t))


def by_square_root(product: np.ndarray) -> float:
    return float(np.trace(scipy.linalg.sqrtm(product)).real)


def by_eigenvalues(product: np.ndarray) -> float:
    eigenvalues = scipy.linalg.eigvals(product)
    return float(np.sqrt(np.maximum(eigenvalues.real, 0.0)).sum())


def clock(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Least wall time in seconds, and the result."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - start)
    return best, result


def peak_mib() -> float:
    # kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def row(name: str, seconds: float, ours: float, value: float) -> None:
    print(f"| {name} | {seconds * 1e3:,.0f} ms | {seconds / ours:.1f} | {value:.10g} |", flush=True)


def speed(d: int, n: int, m: int, *, references: bool) -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(d, d)) / np.sqrt(d)
    a, b = rng.normal(size=(n, d)) @ mix + 0.1, rng.normal(size=(m, d)) @ mix
    print(f"\n## {n} images against {m:,}, {d:,} features\n")
    print("| way | time | over ours | value |\n|---|---|---|---|")
    kept = FeatureStatistics.of(b)
    ours, value = clock(lambda: frechet_distance(a, b, level=None), 5)
    row("ours, samples on both sides, without interval", ours, ours, value.value)
    row("ours, with interval", *_timed(lambda: frechet_distance(a, b), 5, ours))
    row("ours, reals as FeatureStatistics, first use", *_timed(lambda: frechet_distance(a, kept), 1, ours))
    with tempfile.TemporaryDirectory() as folder:
        named = FeatureStatistics.of(b, encoder="bench", preprocessing="none")
        path = named.save(Path(folder) / "reals.safetensors")
        seconds, loaded = clock(lambda: FeatureStatistics.load(path), 3)
        name = f"reading them from a file of {path.stat().st_size / 2**20:.0f} MiB"
        print(f"| {name} | {seconds * 1e3:,.0f} ms | {seconds / ours:.1f} | |", flush=True)
    row("ours, reals from that file, first use", *_timed(lambda: frechet_distance(a, loaded), 1, ours))
    row("ours, reals as FeatureStatistics, later uses", *_timed(lambda: frechet_distance(a, kept), 5, ours))
    if references:
        for name, way in (("scipy.linalg.sqrtm", by_square_root), ("eigenvalues", by_eigenvalues)):
            seconds, reference = clock(lambda way=way: textbook(a, b, way), 1)
            row(name, seconds, ours, reference)


def _timed(run: Callable[[], Any], repeats: int, ours: float) -> tuple[float, float, float]:
    seconds, estimate = clock(run, repeats)
    return seconds, ours, estimate.value


def error(d: int, *, slow: bool) -> None:
    """Both sets of full rank: there the eigenvalue way is sound, and says what the value is."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(4 * d, d)) * 1.2 + 0.1, rng.normal(size=(3 * d, d))
    ours = frechet_distance(a, b, level=None).value
    kept = frechet_distance(a, FeatureStatistics.of(b), level=None).value
    print(f"\n## Error, well-conditioned ({4 * d:,} against {3 * d:,} images, {d:,} features)\n")
    print("| against | value | relative difference of samples | of statistics |\n|---|---|---|---|")
    (mean_a, s), (mean_b, t) = moments(a), moments(b)
    product = scipy.linalg.eigh(s, t, type=2, eigvals_only=True, check_finite=False)  # s t v = w v
    rest = float(np.sum((mean_a - mean_b) ** 2) + np.trace(s) + np.trace(t))
    references = {"eigenvalues, symmetric-definite": rest - 2 * float(np.sqrt(product).sum())}
    if slow:
        references["eigenvalues"] = textbook(a, b, by_eigenvalues)
        references["scipy.linalg.sqrtm"] = textbook(a, b, by_square_root)
    for name, reference in references.items():
        gaps = f"{abs(ours / reference - 1):.1e} | {abs(kept / reference - 1):.1e}"
        print(f"| {name} | {reference:.10g} | {gaps} |", flush=True)


def stream(count: int, d: int, block: int = 500) -> None:
    def blocks() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(2)
        for _ in range(count // block):
            yield rng.standard_normal((block, d), dtype=np.float32)

    print(f"\n## {count:,} features of {d:,} dimensions, streamed in blocks of {block}\n")
    print("| images | time | peak resident memory |\n|---|---|---|")
    print(f"| 0 | - | {peak_mib():,.0f} MiB |")
    for images in (count // 10, count):
        start = time.perf_counter()
        some = (part for part, _ in zip(blocks(), range(images // block), strict=False))
        statistics = FeatureStatistics.of_stream(some)
        print(
            f"| {statistics.count:,} | {time.perf_counter() - start:.1f} s | {peak_mib():,.0f} MiB |",
            flush=True,
        )
    print(f"\nThe features themselves would take {count * d * 8 / 2**20:,.0f} MiB in float64.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--few", type=int, default=64)
    parser.add_argument("--many", type=int, default=5000)
    parser.add_argument("--stream", type=int, default=100_000, help="images to stream; 0 for none")
    parser.add_argument("--no-references", action="store_true", help="leave out the slow ways")
    options = parser.parse_args()
    if options.stream:  # first: the peak is that of the whole process
        stream(options.stream, options.dim)
    error(options.dim // 8, slow=True)
    if not options.no_references:
        error(options.dim, slow=False)
    speed(options.dim, options.few, options.many, references=not options.no_references)


if __name__ == "__main__":
    main()
