"""The thumbnail space: what it sees, and what it does not."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from evaluation import memorization
from evaluation.encoders.base import Encoder
from evaluation.encoders.thumbnail import ThumbnailEncoder, copy_views


def picture(seed: int, side: int = 64) -> Image.Image:
    """Soft colored blobs, larger than a cell of the grid."""
    coarse = np.random.default_rng(seed).integers(0, 256, size=(5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_is_an_encoder_of_grid_means() -> None:
    encoder = ThumbnailEncoder()
    assert isinstance(encoder, Encoder)
    image = picture(0)
    (row,) = encoder.encode_images([image])
    assert (row.shape, row.dtype, encoder.dim) == ((193,), np.float32, 193)
    cells = np.asarray(image, dtype=np.float64).reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)).ravel()
    np.testing.assert_allclose(row[:-1], cells - cells.mean(), atol=1)
    assert encoder.encode_images([]).shape == (0, 193)
    assert ThumbnailEncoder(4).fingerprint != encoder.fingerprint
    with pytest.raises(ValueError, match="side is 1"):
        ThumbnailEncoder(1)


def test_noise_and_brightness_hardly_move_it_and_another_picture_does() -> None:
    encoder, image = ThumbnailEncoder(), picture(0)
    rng = np.random.default_rng(0)
    noisy = np.clip(np.asarray(image) + rng.normal(0, 12, (64, 64, 3)), 0, 255).astype(np.uint8)
    same, near, other, black = encoder.encode_images(
        [image, Image.fromarray(noisy), picture(1), Image.new("RGB", (64, 64))]
    )
    assert cosine(same, near) > 0.995
    assert abs(cosine(same, other)) < 0.6
    assert abs(cosine(same, black)) < 0.05  # a black image has a direction, and is near nothing


def test_views_are_crops_and_their_mirror_images() -> None:
    image = picture(0)
    views = copy_views(image)
    assert len(views) == 38
    assert views[0] is image
    assert np.array_equal(np.asarray(views[19]), np.asarray(ImageOps.mirror(image)))
    assert {view.size for view in views} == {(64, 64), (58, 58), (51, 51)}
    assert len(copy_views(image, crops=())) == 2
    with pytest.raises(ValueError, match=r"crops has 1\.5"):
        copy_views(image, crops=(1.5,))


def test_a_cropped_mirrored_copy_is_found_through_views() -> None:
    encoder = ThumbnailEncoder()

    def viewed(seeds: range) -> np.ndarray:
        rows = [encoder.encode_images(copy_views(picture(seed))) for seed in seeds]
        return np.stack(rows, axis=1)

    copy = ImageOps.mirror(picture(7).crop((3, 5, 59, 61)))
    fresh = [picture(seed) for seed in range(300, 310)]
    found = memorization(
        encoder.encode_images([copy, *fresh]), viewed(range(40)), viewed(range(100, 200)), quantile=0.02
    )
    assert found.copies.tolist()[:1] == [0]
    assert found.nearest[0] == 7


def test_views_in_one_row_are_those_of_copy_views() -> None:
    from evaluation.encoders.thumbnail import ThumbnailViewsEncoder

    rng = np.random.default_rng(4)
    coarse = [Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)) for _ in range(3)]
    images = [image.resize((140, 103), Image.Resampling.BICUBIC) for image in coarse]
    encoder = ThumbnailViewsEncoder()
    rows = encoder.encode_images(images)
    assert rows.shape == (3, encoder.dim)
    expected = np.stack([ThumbnailEncoder().encode_images(copy_views(image)) for image in images], axis=1)
    found = encoder.unfold(rows)
    assert found.shape == expected.shape == (38, 3, 193)
    # the filter takes a pixel on the edge of two cells to one side, so that mirrored cells differ a little
    lengths = np.linalg.norm(found, axis=2) * np.linalg.norm(expected, axis=2)
    assert ((found * expected).sum(axis=2) / lengths).min() > 0.999
    np.testing.assert_array_equal(found[:19], expected[:19])
    assert encoder.unfold(rows[:0]).shape == (38, 0, 193)
