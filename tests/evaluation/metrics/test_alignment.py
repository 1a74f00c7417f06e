"""Category fidelity against fixed texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from evaluation.encoders.base import TextEncoder
from evaluation.metrics.alignment import (
    CLIPSCORE_PREFIX,
    ClassWeights,
    alignment,
    class_weights,
    clip_scores,
    cosines,
    margins,
    probabilities,
)

TEXTS = {
    "polyps": ["a photo of a polyp", "polyps"],
    "instruments": ["a snare", "the forceps"],
    "normal": ["normal mucosa"],
}


class Counting:
    """A text encoder that counts its calls."""

    def __init__(self, inner: Any, fingerprint: str) -> None:
        self.inner, self.fingerprint, self.calls = inner, fingerprint, 0
        self.logit_scale, self.context_length = inner.logit_scale, inner.context_length
        self.count_tokens = inner.count_tokens

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.calls += 1
        return self.inner.encode_texts(texts)


def test_weights_are_unit_means_of_unit_texts(micro_clip: TextEncoder) -> None:
    weights = class_weights(micro_clip, TEXTS)
    assert weights.names == ("polyps", "instruments", "normal")
    np.testing.assert_allclose(np.linalg.norm(weights.matrix, axis=1), 1)
    units = micro_clip.encode_texts(TEXTS["polyps"]).astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    mean = units.mean(axis=0)
    np.testing.assert_allclose(weights.matrix[0], mean / np.linalg.norm(mean), atol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        weights.matrix[0, 0] = 1


def test_texts_are_encoded_once_for_each_encoder(micro_clip: TextEncoder) -> None:
    one, other = Counting(micro_clip, "a" * 64), Counting(micro_clip, "b" * 64)
    first = class_weights(one, TEXTS)  # type: ignore[arg-type]
    assert class_weights(one, {k: list(v) for k, v in TEXTS.items()}) is first  # type: ignore[arg-type]
    assert one.calls == 1
    class_weights(other, TEXTS)  # type: ignore[arg-type]
    class_weights(one, {**TEXTS, "normal": ["mucosa"]})  # type: ignore[arg-type]
    assert (one.calls, other.calls) == (2, 1)


def test_margin_is_the_log_odds_of_the_softmax() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(4, 6))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    weights = ClassWeights(("a", "b", "c", "d"), matrix, 10.0)
    features = rng.normal(size=(7, 6)) * 30
    p = probabilities(features, weights)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    for column, name in enumerate(weights.names):
        expected = np.log(p[:, column] / (1 - p[:, column]))
        np.testing.assert_allclose(margins(features, weights, target=name), expected, rtol=1e-9)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(cosines(features, weights), unit @ matrix.T)


def test_margin_does_not_saturate() -> None:
    weights = ClassWeights(("a", "b"), np.array([[1.0, 0.0], [-1.0, 0.0]]), 1000.0)
    near, nearer = margins([[0.9, 0.1], [0.99, 0.01]], weights, target="a")
    assert probabilities([[0.9, 0.1]], weights)[0, 0] == 1.0
    assert np.isfinite([near, nearer]).all()
    assert nearer > near > 1000


def test_no_image_no_margin() -> None:
    weights = ClassWeights(("a", "b"), np.eye(2), 1.0)
    assert margins(np.zeros((0, 2)), weights, target="a").shape == (0,)


def test_wrong_input_is_named(micro_clip: TextEncoder) -> None:
    weights = ClassWeights(("a", "b"), np.eye(2), 1.0)
    with pytest.raises(ValueError, match=r"target 'c' .* a, b"):
        margins([[1.0, 0.0]], weights, target="c")
    with pytest.raises(ValueError, match="row 0 is all zeros"):
        margins([[0.0, 0.0]], weights, target="a")
    with pytest.raises(ValueError, match="row 1 holds a NaN"):
        probabilities([[1.0, 0.0], [np.nan, 1.0]], weights)
    with pytest.raises(ValueError, match="same encoder"):
        margins([[1.0, 0.0, 0.0]], weights, target="a")
    with pytest.raises(ValueError, match="only class"):
        margins([[1.0]], ClassWeights(("a",), np.eye(1), 1.0), target="a")
    with pytest.raises(ValueError, match="class 'x'"):
        class_weights(micro_clip, {"x": []})
    with pytest.raises(ValueError, match="class 'x'"):
        class_weights(micro_clip, {"x": "one text"})
    with pytest.raises(ValueError, match="no classes"):
        class_weights(micro_clip, {})


def test_texts_that_are_cut_are_counted_and_warned_of(micro_clip: TextEncoder) -> None:
    long = "polyp " * micro_clip.context_length
    with pytest.warns(UserWarning, match="1 of 3 texts are longer"):
        weights = class_weights(micro_clip, {"polyps": ["a polyp", long], "normal": ["normal mucosa"]})
    assert weights.truncated == (long,)
    assert class_weights(micro_clip, TEXTS).truncated == ()


def test_clip_score_is_clipped_image_by_image() -> None:
    weights = ClassWeights(("a", "b"), np.array([[1.0, 0.0], [0.0, 1.0]]), 10.0)
    features = np.array([[-2.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(clip_scores(features, weights), [[0, 0], [1.5, 2.0]])
    found = alignment(features, weights, target="a")
    assert found.cosine.value == pytest.approx((-1 + 0.6) / 2)
    assert found.clip_score.value == pytest.approx(0.75)  # clipping the mean cosine, -0.2, would give 0
    assert found.margin.value == pytest.approx(margins(features, weights, target="a").mean())
    assert "no prefix" in found.clip_score.method


def test_clip_score_with_its_published_prefix(micro_clip: TextEncoder) -> None:
    plain = class_weights(micro_clip, TEXTS)
    prefixed = class_weights(micro_clip, TEXTS, prefix=CLIPSCORE_PREFIX)
    assert np.abs(plain.matrix - prefixed.matrix).max() > 1e-3
    features = np.random.default_rng(0).normal(size=(5, 16))
    found = alignment(features, plain, target="polyps", clip_score_weights=prefixed)
    assert "A photo depicts" in found.clip_score.method
    column = clip_scores(features, prefixed)[:, 0]
    assert found.clip_score.value == pytest.approx(column.mean())
    assert found.margin == alignment(features, plain, target="polyps").margin


def test_alignment_of_no_image_and_one() -> None:
    weights = ClassWeights(("a", "b"), np.eye(2), 1.0)
    assert alignment(np.zeros((0, 2)), weights, target="a").margin.status == "undefined"
    assert alignment(np.ones((1, 2)), weights, target="a").margin.status == "unreliable"
    with pytest.raises(ValueError, match="not one of the classes"):
        alignment(np.ones((1, 2)), weights, target="c")
