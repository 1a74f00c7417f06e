"""The metrics that an evaluation can be asked for, on one part of the two sets in one encoder's space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.encoders.base import Encoder, TextEncoder
from evaluation.estimate import Estimate
from evaluation.metrics.alignment import ClassWeights, clip_scores, cosines, margins
from evaluation.metrics.diversity import diversity
from evaluation.metrics.frechet import frechet_distance
from evaluation.metrics.inception_score import inception_score
from evaluation.metrics.kid import kid
from evaluation.metrics.mmd import median_bandwidth, mmd
from evaluation.report.calibration import Calibration

Features = NDArray[np.float32]
BANDWIDTH_ROWS = 5000
"""Real images from which the bandwidth is taken; of more, a seeded sample."""


@dataclass(frozen=True)
class Judge:
    """The texts of each category in an encoder's space (plain, and with CLIPScore's prefix), and how well it
    knows the categories: AUROCs on real images, None when they could not be had."""

    weights: Mapping[str, ClassWeights]
    prefixed: Mapping[str, ClassWeights]
    calibration: Calibration | None


@dataclass(frozen=True)
class Measured:
    """What all parts share: the encoder, and the kernel's bandwidth from all real images."""

    encoder: Encoder
    label: str
    real: Features = field(repr=False)
    seed: int = field(kw_only=True)
    level: float = field(kw_only=True)

    @cached_property
    def bandwidth(self) -> float | None:
        """Median distance of the real images; None where it is not defined."""
        rows = self.real
        if len(rows) > BANDWIDTH_ROWS:
            chosen = np.random.default_rng(self.seed).choice(len(rows), size=BANDWIDTH_ROWS, replace=False)
            rows = rows[np.sort(chosen)]
        try:
            return median_bandwidth(rows)
        except ValueError:
            return None  # one image, or copies of one: the rows that need it say so


@dataclass(frozen=True)
class Sample:
    """One part: features of both sets, and what the generated images should show."""

    real: Features
    generated: Features
    targets: tuple[str, ...] | None
    judge: Judge | None
    allow_uncalibrated: bool


@dataclass(frozen=True)
class Found:
    """One figure of a metric."""

    name: str
    better: str
    estimate: Estimate


@dataclass(frozen=True)
class Metric:
    """A metric by its short name."""

    title: str
    measure: Callable[[Measured, Sample], list[Found]]


def encoder_label(encoder: Encoder, others: Sequence[Encoder] = ()) -> str:
    """A short name for tables: the address, or a folder's own name, with a fingerprint if two are alike."""
    labels = [_short(other) for other in others]
    own = _short(encoder)
    return own if labels.count(own) < 2 else f"{own}#{encoder.fingerprint[:8]}"


def frechet_name(encoder: Encoder, label: str | None = None) -> str:
    """``FID`` for the published Inception weights alone; for all others ``FD (encoder)``."""
    return "FID" if getattr(encoder, "published", False) else f"FD ({label or encoder_label(encoder)})"


def _short(encoder: Encoder) -> str:
    scheme, _, rest = encoder.uri.rpartition(":")
    place = Path(rest)
    name = place.name if place.is_absolute() or place.exists() else rest
    return f"{scheme}:{name}" if scheme else name


def _fd(m: Measured, s: Sample) -> list[Found]:
    return [Found(frechet_name(m.encoder, m.label), "lower", _both(s, frechet_distance, "Fréchet distance"))]


def _kid(m: Measured, s: Sample) -> list[Found]:
    name = "KID" if getattr(m.encoder, "published", False) else f"KD ({m.label})"
    return [Found(name, "lower", _both(s, lambda a, b: kid(a, b, level=m.level), "KID"))]


def _mmd(m: Measured, s: Sample) -> list[Found]:
    name = f"RBF-MMD² ({m.label})"
    if m.bandwidth is None:
        reason = "RBF-MMD^2: no bandwidth, fewer than two different real images"
        return [Found(name, "lower", Estimate.undefined(min(len(s.real), len(s.generated)), reason))]
    estimate = _both(s, lambda a, b: mmd(a, b, bandwidth=m.bandwidth, level=m.level), "RBF-MMD^2")
    return [Found(name, "lower", estimate)]


def _both(s: Sample, metric: Callable[[Any, Any], Estimate], title: str) -> Estimate:
    for side, rows in (("real", s.real), ("generated", s.generated)):
        if len(rows) == 0:
            return Estimate.undefined(0, f"{title}: no {side} image in this part")
    return metric(s.generated, s.real)


def _is(m: Measured, s: Sample) -> list[Found]:
    name = "IS" if getattr(m.encoder, "published", False) else f"IS ({m.label})"
    probabilities = getattr(m.encoder, "probabilities", None)
    if probabilities is None:
        reason = "Inception score: this encoder has no class probabilities; use 'inception'"
        return [Found(name, "higher", Estimate.undefined(len(s.generated), reason))]
    found = []
    for title, rows in ((name, s.generated), (f"{name} of the real images", s.real)):
        estimate = inception_score(probabilities(rows), seed=m.seed, level=m.level)
        found.append(Found(title, "higher" if title == name else "", estimate))
    return found


def _diversity(m: Measured, s: Sample) -> list[Found]:
    name = f"diversity ({m.label})"
    return [
        Found(name, "higher", diversity(s.generated, level=m.level)),
        Found(f"{name} of the real images", "", diversity(s.real, level=m.level)),
    ]


_ALIGNMENT = (("alignment margin", "log-odds margin"), ("cosine", "raw cosine"), ("CLIPScore", "CLIPScore"))


def _alignment(m: Measured, s: Sample) -> list[Found]:
    reason = _no_alignment(m, s)
    n = len(s.generated)
    if reason is not None:
        return [
            Found(f"{name} ({m.label})", "higher", Estimate.undefined(n, f"{title}: {reason}"))
            for name, title in _ALIGNMENT
        ]
    assert s.judge is not None
    assert s.targets is not None
    targets = np.asarray(s.targets, dtype=object)
    values = np.empty((3, n))
    prefix = ""
    for target in sorted(set(s.targets)):
        rows = np.flatnonzero(targets == target)
        weights, prefixed = s.judge.weights[target], s.judge.prefixed[target]
        column = weights.names.index(target)
        prefix = prefixed.prefix
        values[0, rows] = margins(s.generated[rows], weights, target=target)
        values[1, rows] = cosines(s.generated[rows], weights)[:, column]
        values[2, rows] = clip_scores(s.generated[rows], prefixed)[:, column]
    methods = (
        "log-odds margin of the image's category, mean",
        "cosine with the mean text of the image's category, mean",
        f"2.5 max(cos, 0), prefix {prefix!r}, mean",
    )
    calibration = s.judge.calibration
    sure = calibration is not None and all(calibration.passes(target) for target in set(s.targets))
    found = []
    for (name, _), row, method in zip(_ALIGNMENT, values, methods, strict=True):
        estimate = Estimate.of_mean(row, level=m.level, method=method)
        if not sure:
            estimate = replace(estimate, status="unreliable", method=f"{method}; judge not calibrated")
        found.append(Found(f"{name} ({m.label})", "higher", estimate))
    return found


def _no_alignment(m: Measured, s: Sample) -> str | None:
    """Why there is no alignment; None when there is."""
    if not isinstance(m.encoder, TextEncoder):
        return "this encoder reads no texts"
    if s.targets is None:
        return "the generated set does not say what its images show"
    if not s.targets:
        return "no generated image in this part"
    if s.judge is None:
        return "no texts were given"
    without = sorted(set(s.targets) - set(s.judge.weights))
    if without:
        return (
            f"no texts for the category {without[0]!r}; look at the others one by one (--by category), or "
            "give a category file of it (--texts)"
        )
    if s.judge.calibration is None or s.allow_uncalibrated:
        return None
    for target in sorted(set(s.targets)):
        known = s.judge.calibration.auroc.get(target)
        if known is not None and known.value is not None and not s.judge.calibration.passes(target):
            floor = s.judge.calibration.floor
            return f"refused, AUROC of {target!r} on real images {known.value:.3f}, floor {floor:g}"
    return None


METRICS: dict[str, Metric] = {
    "fd": Metric("Fréchet distance (FID in Inception's space alone)", _fd),
    "kid": Metric("unbiased MMD² with the cubic kernel", _kid),
    "mmd": Metric("unbiased MMD² with a Gaussian kernel", _mmd),
    "is": Metric("Inception score", _is),
    "alignment": Metric("margin, cosine and CLIPScore against fixed category texts", _alignment),
    "diversity": Metric("mean pairwise cosine distance", _diversity),
}
