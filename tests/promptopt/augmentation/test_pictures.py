"""What filters see of an image: the same, whether it came with features, as a file or as pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.features.errors import FeatureStoreError
from generators import StoreError
from generators.store import ImageStore
from promptopt.augmentation.pictures import EXTREMES, THUMBNAIL, Picture, features_of, open_looks
from promptopt.augmentation.writers import texts
from tests.promptopt.augmentation.planted import varied
from tests.promptopt.fakes import ColorEncoder, SquareGenerator


def test_extremes_are_those_of_each_channel() -> None:
    values = np.random.default_rng(0).integers(3, 250, (5, 6, 4, 3), dtype=np.uint8)
    found = EXTREMES.encode_images([Image.fromarray(one) for one in values])
    assert np.array_equal(found, np.concatenate([values.min(axis=(1, 2)), values.max(axis=(1, 2))], axis=1))
    assert EXTREMES.encode_images([]).shape == (0, EXTREMES.dim)
    (gray,) = EXTREMES.encode_images([Image.new("L", (2, 2), 7)])
    assert gray.tolist() == [7] * 6


def test_a_file_and_its_pixels_are_looked_at_and_written_alike(tmp_path: Path) -> None:
    requests = [SquareGenerator().request("a big red square", seed) for seed in range(3)]
    images = [varied(request.prompt, request.seed) for request in requests]
    stored = [ImageStore(tmp_path).put(*pair) for pair in zip(requests, images, strict=True)]
    as_pixels = [Picture(image) for image in images]
    as_files = [Picture(content=one.content(), name=str(one.path)) for one in stored]
    rows = open_looks([EXTREMES.uri, THUMBNAIL.uri], "cpu")([one.path for one in stored])
    for encoder in (EXTREMES, THUMBNAIL, ColorEncoder()):
        expected = encoder.encode_images(images)
        assert np.array_equal(features_of(encoder, as_pixels), expected)
        assert np.array_equal(features_of(encoder, as_files), expected)
        if encoder.uri in rows:
            assert np.array_equal(rows[encoder.uri], expected)
    for request, one, other in zip(requests, as_pixels, as_files, strict=True):
        said = texts(request, {"seed": request.seed})
        assert one.png(said) == other.png(said)


def test_features_that_came_with_an_image_need_no_pixels() -> None:
    known = Picture(content=b"no picture", name="a.png", features={"far": np.ones(48, dtype=np.float32)})
    near = Picture(Image.new("RGB", (8, 8), (128, 128, 128)))
    encoder = ColorEncoder()
    found = features_of(encoder, [known, near], address="far")
    assert found.tolist() == [[1.0] * 48, [0.0] * 48]
    with pytest.raises(StoreError, match=r"a\.png"):
        features_of(encoder, [known])
    assert features_of(encoder, []).shape == (0, 48)


def test_a_file_that_is_missing_where_it_was_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeatureStoreError, match=r"gone\.png"):
        open_looks([EXTREMES.uri], "cpu")([tmp_path / "gone.png"])
