"""What every encoder must do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from evaluation import Encoder, FeatureStore, TextEncoder

Load = Callable[[], Encoder]
SIZES = ((64, 64), (80, 60), (33, 47), (640, 480), (64, 64), (16, 16), (64, 64), (64, 64), (70, 64))
"""Width and height of the images that are encoded: more than a batch of eight, most of them of odd shapes."""


class EncoderSuite:
    """Tests of an `evaluation.Encoder`; those of texts run for a `TextEncoder`.

    Override the fixture `load`: a function that loads the encoder anew each time it is called.

    Attributes:
        atol: how far features of one image may lie apart in two calls.
        texts: three texts with different features, the first shorter than the last.

    Example:
        >>> class TestMine(EncoderSuite):
        ...     @pytest.fixture(scope="class")
        ...     def load(self):
        ...         return lambda: MyEncoder("weights.safetensors")
    """

    atol: ClassVar[float] = 1e-5
    texts: ClassVar[tuple[str, ...]] = ("a polyp", "normal mucosa", "a red polyp")

    @pytest.fixture(scope="class")
    def load(self) -> Load:
        """The encoder, loaded anew at each call."""
        raise NotImplementedError(f"{type(self).__name__}: override the fixture `load`")

    @pytest.fixture(scope="class")
    def encoder(self, load: Load) -> Encoder:
        """The encoder, loaded once for the class."""
        return load()

    @pytest.fixture(scope="class")
    def text_encoder(self, encoder: Encoder) -> TextEncoder:
        """The encoder, where it reads texts."""
        if not isinstance(encoder, TextEncoder):
            pytest.skip("reads images alone")
        return encoder

    @pytest.fixture
    def images(self) -> list[Image.Image]:
        """Noise in `SIZES`."""
        return noise()

    def test_says_what_it_is(self, encoder: Encoder, load: Load) -> None:
        assert isinstance(encoder, Encoder)
        assert encoder.uri.strip()
        assert encoder.dim >= 1
        assert re.fullmatch("[0-9a-f]{64}", encoder.fingerprint), "fingerprint is no hexadecimal sha256"
        again = load()
        assert (again.fingerprint, again.dim, again.uri) == (encoder.fingerprint, encoder.dim, encoder.uri)

    def test_features_are_finite_float32_rows(self, encoder: Encoder, images: list[Image.Image]) -> None:
        features = encoder.encode_images(images)
        assert features.shape == (len(images), encoder.dim)
        assert features.dtype == np.float32
        assert np.isfinite(features).all()
        assert encoder.encode_images([]).shape == (0, encoder.dim)

    def test_different_images_have_different_features(
        self, encoder: Encoder, images: list[Image.Image]
    ) -> None:
        features = encoder.encode_images(images)
        distances = np.linalg.norm(features[:, None] - features[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        assert distances.min() > 10 * self.atol

    def test_company_and_order_do_not_matter(self, encoder: Encoder, images: list[Image.Image]) -> None:
        together = encoder.encode_images(images)
        alone = np.concatenate([encoder.encode_images([image]) for image in images])
        np.testing.assert_allclose(alone, together, atol=self.atol)
        np.testing.assert_allclose(encoder.encode_images(images[::-1])[::-1], together, atol=self.atol)

    def test_loading_again_changes_nothing(
        self, encoder: Encoder, load: Load, images: list[Image.Image]
    ) -> None:
        again = load().encode_images(images)
        np.testing.assert_allclose(again, encoder.encode_images(images), atol=self.atol)

    def test_mode_of_the_image_does_not_matter(self, encoder: Encoder) -> None:
        gray = Image.linear_gradient("L").resize((64, 64))
        rows = encoder.encode_images([gray, *(gray.convert(mode) for mode in ("RGB", "RGBA", "P"))])
        np.testing.assert_allclose(rows[1:], np.repeat(rows[:1], 3, axis=0), atol=10 * self.atol)

    def test_images_are_left_as_they_were(self, encoder: Encoder, images: list[Image.Image]) -> None:
        before = [(image.mode, image.size, image.tobytes()) for image in images]
        encoder.encode_images(images)
        assert [(image.mode, image.size, image.tobytes()) for image in images] == before

    def test_feature_store_keeps_the_features(
        self, encoder: Encoder, images: list[Image.Image], tmp_path: Path
    ) -> None:
        paths = [tmp_path / f"{i}.png" for i in range(3)]
        for image, path in zip(images, paths, strict=False):
            image.save(path)
        stored = FeatureStore(tmp_path / "f.sqlite").features(encoder, paths, batch_size=2)
        np.testing.assert_allclose(stored, encoder.encode_images(images[:3]), atol=self.atol)

    def test_texts_are_finite_float32_rows(self, text_encoder: TextEncoder) -> None:
        features = text_encoder.encode_texts(self.texts)
        assert features.shape == (len(self.texts), text_encoder.dim)
        assert features.dtype == np.float32
        assert np.isfinite(features).all()
        assert len(np.unique(features, axis=0)) == len(self.texts), "two texts have the same features"
        alone = np.concatenate([text_encoder.encode_texts([text]) for text in self.texts])
        np.testing.assert_allclose(alone, features, atol=self.atol)
        assert text_encoder.encode_texts([]).shape == (0, text_encoder.dim)
        assert text_encoder.logit_scale > 0

    def test_tokens_are_counted_before_any_cut(self, text_encoder: TextEncoder) -> None:
        short, long = self.texts[0], self.texts[-1]
        count, limit = text_encoder.count_tokens, text_encoder.context_length
        assert 0 <= count("") < count(short) < count(long) <= limit
        assert count(f"{short} " * limit) > limit

    def test_too_long_text_is_cut_with_a_warning(self, text_encoder: TextEncoder) -> None:
        long = f"{self.texts[0]} " * text_encoder.context_length
        with pytest.warns(UserWarning, match="cut"):
            features = text_encoder.encode_texts([long])
        assert features.shape == (1, text_encoder.dim)


def noise(sizes: tuple[tuple[int, int], ...] = SIZES) -> list[Image.Image]:
    """RGB images of noise, the same at each call."""
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in sizes
    ]
