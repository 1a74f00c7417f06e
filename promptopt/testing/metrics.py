"""What every metric must do: those of sets of features, and those of single images (terms of the score)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evaluation import Estimate
from promptopt.scoring.objective import ImageMetric
from promptopt.testing.encoders import noise

Array = NDArray[np.floating[Any]]
Measure = Callable[[Array], Estimate]


class SetMetricSuite:
    """Tests of a metric as a function of the features of one set of images.

    Override the fixture `measure`: features (n, `dim`), positive -> Estimate. A metric of two sets keeps the
    other one in a closure.

    Attributes:
        dim: length of a feature vector.
        least: the fewest images that give a value; fewer give ``undefined``.
        order_tolerance: by how much the value, or its share, may change with the order of the images. Above
            the default only for a metric that draws subsets, and says so.

    Example:
        >>> class TestMine(SetMetricSuite):
        ...     @pytest.fixture(scope="class")
        ...     def measure(self):
        ...         return lambda features: my_metric(features, REFERENCE)
    """

    dim: ClassVar[int] = 4
    least: ClassVar[int] = 2
    order_tolerance: ClassVar[float] = 1e-9

    @pytest.fixture(scope="class")
    def measure(self) -> Measure:
        """The metric."""
        raise NotImplementedError(f"{type(self).__name__}: override the fixture `measure`")

    def features(self, n: int, seed: int = 0) -> Array:
        """Positive features, shape (n, dim)."""
        return np.abs(np.random.default_rng(seed).normal(size=(n, self.dim))) + 0.1

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_gives_an_estimate_that_can_be_stored(self, measure: Measure, dtype: type) -> None:
        estimate = measure(self.features(25).astype(dtype))
        assert isinstance(estimate, Estimate)
        assert estimate.status in ("ok", "unreliable")
        assert estimate.n == 25
        assert Estimate.from_json(json.loads(estimate.to_json())) == estimate

    def test_float32_and_float64_agree(self, measure: Measure) -> None:
        exact = self.features(25).astype(np.float32)
        assert value(measure(exact)) == pytest.approx(
            value(measure(exact.astype(np.float64))), rel=1e-4, abs=1e-4
        )

    def test_same_input_gives_the_same_value_and_is_left_alone(self, measure: Measure) -> None:
        features = self.features(20)
        kept = features.copy()
        assert measure(features) == measure(features)
        np.testing.assert_array_equal(features, kept)

    def test_value_follows_the_images(self, measure: Measure) -> None:
        slanted = self.features(20) * np.geomspace(0.1, 4, self.dim)
        values = {
            measure(features).value for features in (slanted, *(self.features(20, k) for k in range(3)))
        }
        assert len(values) > 1, "three different sets, one value"

    def test_order_of_the_images(self, measure: Measure) -> None:
        features = self.features(20)
        shuffled = value(measure(np.random.default_rng(5).permutation(features)))
        tolerance = self.order_tolerance
        assert shuffled == pytest.approx(value(measure(features)), rel=tolerance, abs=tolerance)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_refuses_what_is_not_finite_and_says_where(self, measure: Measure, bad: float) -> None:
        features = self.features(20)
        features[6, 1] = bad
        with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=r"row 6 .*NaN"):
            measure(features)

    def test_few_images(self, measure: Measure) -> None:
        for n in range(self.least):
            estimate = measure(self.features(n))
            assert (estimate.status, estimate.n) == ("undefined", n)
        assert measure(self.features(self.least)).status in ("ok", "unreliable")

    def test_refuses_a_flat_array(self, measure: Measure) -> None:
        with pytest.raises(ValueError):  # noqa: PT011  what NumPy says of the axis is as good as ours
            measure(np.ones(5))


class ImageMetricSuite:
    """Tests of a `promptopt.ImageMetric`: one number for every image.

    Override the fixture `metric`, and `images` where noise is nothing that the metric can read.

    Example:
        >>> class TestMine(ImageMetricSuite):
        ...     @pytest.fixture
        ...     def metric(self):
        ...         return ImageMetric("sharpness", sharpness)
    """

    @pytest.fixture
    def metric(self) -> ImageMetric:
        """The metric."""
        raise NotImplementedError(f"{type(self).__name__}: override the fixture `metric`")

    @pytest.fixture
    def images(self) -> list[Image.Image]:
        """Images that the metric tells from each other: here noise, each darker than the one before."""
        return [image.point(lambda level, k=k: level // (1 + k)) for k, image in enumerate(noise())]

    def test_one_finite_number_an_image(self, metric: ImageMetric, images: list[Image.Image]) -> None:
        values = metric(images)
        assert values.shape == (len(images),)
        assert values.dtype == np.float64
        assert metric([]).shape == (0,)

    def test_value_follows_the_image(self, metric: ImageMetric, images: list[Image.Image]) -> None:
        assert np.ptp(metric(images)) > 0

    def test_company_and_order_do_not_matter(self, metric: ImageMetric, images: list[Image.Image]) -> None:
        together = metric(images)
        alone = np.concatenate([metric([image]) for image in images])
        np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(metric(images[::-1])[::-1], together, rtol=1e-5, atol=1e-8)

    def test_images_are_left_as_they_were(self, metric: ImageMetric, images: list[Image.Image]) -> None:
        before = [image.tobytes() for image in images]
        first = metric(images)
        assert [image.tobytes() for image in images] == before
        np.testing.assert_array_equal(metric(images), first)


def value(estimate: Estimate) -> Any:
    """The value of an estimate that must have one."""
    assert estimate.value is not None, f"{estimate.method}: undefined for {estimate.n} images"
    return estimate.value
