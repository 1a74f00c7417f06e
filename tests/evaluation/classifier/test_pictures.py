"""Pictures and their perturbation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.classifier.pictures import Pictures, augment, gaussian_blur
from promptopt.base.training.errors import TrainingError


def decode(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def test_pictures_are_the_same_kept_or_decoded_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = rng.integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, array in zip(paths, arrays, strict=True):
        Image.fromarray(array).save(path)
    kept, again = Pictures(paths, decode=decode), Pictures(paths, decode=decode, memory_limit=0)
    torch.testing.assert_close(kept.batch([2, 0]), again.batch([2, 0]))
    np.testing.assert_allclose(kept.batch([2])[0].permute(1, 2, 0).numpy() * 255, arrays[2], atol=1e-4)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match=r"a\.png: not a readable image"):
        Pictures([tmp_path / "a.png"], decode=decode)


def test_blur_agrees_with_scipy_and_leaves_sigma_zero_alone() -> None:
    from scipy.ndimage import gaussian_filter

    images = torch.from_numpy(np.random.default_rng(0).random((2, 3, 20, 20)))
    blurred = gaussian_blur(images, torch.tensor([0.0, 1.1], dtype=torch.float64))
    torch.testing.assert_close(blurred[0], images[0])
    expected = gaussian_filter(images[1].numpy(), (0, 1.1, 1.1), mode="mirror", radius=3)
    np.testing.assert_allclose(blurred[1].numpy(), expected, atol=1e-9)


def test_augmentation_follows_its_seed_stays_in_range_and_keeps_places() -> None:
    images = torch.zeros(16, 3, 24, 24) + 0.3
    images[:, :, 2:8, 2:8] = 0.9  # upper left
    first, second = (augment(images, np.random.default_rng(7), 1.0) for _ in range(2))
    assert first.equal(second)
    assert not first.equal(augment(images, np.random.default_rng(8), 1.0))
    assert first.shape == images.shape
    assert first.dtype == torch.float32
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    brightest = first.mean(dim=1).reshape(16, 2, 12, 2, 12).mean(dim=(2, 4)).reshape(16, 4).argmax(dim=1)
    assert (brightest == 0).all()  # a flip would move it
    assert augment(images, np.random.default_rng(7), 0.0) is images
