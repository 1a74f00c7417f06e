"""Every metric that ships, in the suite for metrics. A new metric is one line in METRICS."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from evaluation.estimate import Estimate
from evaluation.features.moments import FeatureStatistics
from evaluation.inference.paired import compare
from evaluation.metrics.alignment import ClassWeights, clip_scores, margins
from evaluation.metrics.diversity import diversity
from evaluation.metrics.duplicates import duplicates
from evaluation.metrics.frechet import frechet_distance
from evaluation.metrics.frechet_infinity import frechet_infinity
from evaluation.metrics.inception_score import inception_score
from evaluation.metrics.kid import kid
from evaluation.metrics.memorization import memorization
from evaluation.metrics.mmd import mmd, mmd_contributions
from promptopt import ImageMetric
from promptopt.testing.metrics import ImageMetricSuite, SetMetricSuite


def positive(n: int, seed: int) -> np.ndarray:
    return np.abs(np.random.default_rng(seed).normal(size=(n, 4))) + 0.1


REFERENCE = positive(30, seed=99)
OTHERS = positive(19, seed=7)
KEPT = FeatureStatistics.of(REFERENCE)
WEIGHTS = ClassWeights(("a", "b"), np.eye(4)[:2], 5.0)


def share(x: np.ndarray) -> np.ndarray:
    """Positive rows that sum to 1, as probabilities; an empty matrix stays one."""
    return x / x.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Case:
    """A metric as a function of one set of images; see `SetMetricSuite` for the rest."""

    name: str
    measure: Callable[[np.ndarray], Estimate]
    least: int
    order_tolerance: float = SetMetricSuite.order_tolerance


METRICS = [
    Case("frechet", lambda x: frechet_distance(x, REFERENCE), 2),
    Case("frechet, other side", lambda x: frechet_distance(REFERENCE, x), 2),
    Case("frechet, statistics", lambda x: frechet_distance(x, KEPT), 2),
    Case("frechet infinity", lambda x: frechet_infinity(x, REFERENCE, seed=0), 4, order_tolerance=0.3),
    Case("mmd", lambda x: mmd(x, REFERENCE), 2),
    Case("mmd, other side", lambda x: mmd(REFERENCE, x, bandwidth=2.0), 2),
    Case("kid", lambda x: kid(x, REFERENCE), 2),
    Case("diversity", lambda x: diversity(x), 2),
    Case("diversity, euclidean", lambda x: diversity(x, distance="euclidean"), 2),
    Case("inception score", lambda x: inception_score(share(x), splits=3, seed=0), 3, order_tolerance=0.2),
    Case("inception score, whole", lambda x: inception_score(share(x), splits=1, seed=0), 1),
    Case("alignment", lambda x: Estimate.of_mean(margins(x, WEIGHTS, target="a")), 1),
    Case("comparison", lambda x: compare(margins(x, WEIGHTS, target="a"), np.zeros(len(x)), anytime=True), 1),
    Case("memorization", lambda x: memorization(x, REFERENCE, OTHERS, quantile=0.1).share, 1),
    Case("duplicates", lambda x: duplicates(x, REFERENCE, quantile=0.9).share, 2),
    Case("clip score", lambda x: Estimate.of_mean(clip_scores(x, WEIGHTS)[:, 0]), 1),
]


@pytest.mark.parametrize("case", METRICS, ids=lambda case: case.name, scope="class")
class TestSetMetrics(SetMetricSuite):
    @pytest.fixture(scope="class")
    def measure(self, case: Case) -> Callable[[np.ndarray], Estimate]:
        return case.measure

    @pytest.fixture(autouse=True)
    def _limits(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "least", case.least)
        monkeypatch.setattr(type(self), "order_tolerance", case.order_tolerance)


class TestMmdContributions(SetMetricSuite):
    """Per image, so it has no Estimate to leave undefined: a single image is refused."""

    @pytest.fixture(scope="class")
    def measure(self) -> Callable[[np.ndarray], Estimate]:
        return lambda x: Estimate.of_mean(mmd_contributions(x, REFERENCE))

    def test_few_images(self, measure: Callable[[np.ndarray], Estimate]) -> None:
        for n in range(2):
            with pytest.raises(ValueError, match="contributions need"):
                measure(self.features(n))
        assert measure(self.features(2)).status in ("ok", "unreliable")


class TestBrightness(ImageMetricSuite):
    """The metric of the documentation's example."""

    @pytest.fixture
    def metric(self) -> ImageMetric:
        def brightness(images: list[Image.Image]) -> list[float]:
            return [float(np.asarray(image.convert("L")).mean()) for image in images]

        return ImageMetric("brightness", brightness)
