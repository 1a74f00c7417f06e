"""What every encoder must do. A new encoder is one line in ENCODERS."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation import FeatureStore, load_encoder
from evaluation.encoders.base import Encoder, TextEncoder
from evaluation.encoders.load import EMBEDDED_CLIP
from tests.evaluation.conftest import make_micro_clip
from tests.evaluation.encoders.small import make_micro_dinov2, make_small_inception

MAKERS = {
    "micro": lambda folder: str(make_micro_clip(folder)),
    "dinov2": lambda folder: f"dinov2:{make_micro_dinov2(folder)}",
    "inception": lambda folder: f"inception:{make_small_inception(folder)}",
}
ENCODERS = [*MAKERS, "embedded", "thumbnail"]


@pytest.fixture(scope="module", params=ENCODERS)
def uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param in MAKERS:
        return MAKERS[request.param](tmp_path_factory.mktemp(request.param))
    if request.param == "embedded" and not (EMBEDDED_CLIP / "open_clip_config.json").is_file():
        pytest.skip("the embedded encoder has not been built in this checkout")
    return request.param


@pytest.fixture(scope="module")
def encoder(uri: str) -> Any:
    return load_encoder(uri, device="cpu")


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
        for w, h in [
            (64, 64),
            (80, 60),
            (33, 47),
            (640, 480),
            (64, 64),
            (16, 16),
            (64, 64),
            (64, 64),
            (70, 64),
        ]
    ]


def test_says_what_it_is(encoder: Encoder, uri: str) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.uri == uri
    assert encoder.dim > 0
    assert len(encoder.fingerprint) == 64
    assert load_encoder(uri, device="cpu").fingerprint == encoder.fingerprint


def test_features_are_finite_float32_rows(encoder: Encoder, images: list[Image.Image]) -> None:
    features = encoder.encode_images(images)
    assert features.shape == (len(images), encoder.dim)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.ptp(features, axis=0).max() > 0
    assert encoder.encode_images([]).shape == (0, encoder.dim)


def test_company_and_order_do_not_matter(encoder: Encoder, images: list[Image.Image]) -> None:
    together = encoder.encode_images(images)
    alone = np.concatenate([encoder.encode_images([image]) for image in images])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_images(images[::-1])[::-1], together, atol=1e-5)


def test_kinds_of_image(encoder: Encoder) -> None:
    grey = Image.linear_gradient("L").resize((64, 64))
    rows = encoder.encode_images([grey, grey.convert("RGB"), grey.convert("RGBA"), grey.convert("P")])
    np.testing.assert_allclose(rows[1:], np.repeat(rows[:1], 3, axis=0), atol=1e-4)


def test_images_are_left_as_they_were(encoder: Encoder, images: list[Image.Image]) -> None:
    before = images[0].tobytes()
    encoder.encode_images(images[:1])
    assert images[0].tobytes() == before


def test_works_with_the_feature_store(encoder: Encoder, images: list[Image.Image], tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for image, path in zip(images, paths, strict=False):
        image.save(path)
    stored = FeatureStore(tmp_path / "f.sqlite").features(encoder, paths, batch_size=2)
    np.testing.assert_allclose(stored, encoder.encode_images(images[:3]), atol=1e-5)


def test_texts(encoder: Encoder) -> None:
    if not isinstance(encoder, TextEncoder):
        pytest.skip("reads images alone")
    texts = ["a polyp", "normal mucosa", "a red polyp"]
    features = encoder.encode_texts(texts)
    assert features.shape == (3, encoder.dim)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    np.testing.assert_allclose(alone, features, atol=1e-5)
    assert encoder.encode_texts([]).shape == (0, encoder.dim)
    assert encoder.logit_scale > 0
    assert 2 <= encoder.count_tokens("") < encoder.count_tokens("a polyp") < encoder.context_length
    long = "polyp " * (encoder.context_length + 10)
    assert encoder.count_tokens(long) > encoder.context_length
    with pytest.warns(UserWarning, match="are cut"):
        encoder.encode_texts([long])
