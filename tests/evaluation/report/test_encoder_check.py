"""An encoder beside thumbnails: the numbers are scikit-learn's, and planted ones are judged rightly."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluation import FeatureStore
from evaluation.encoders.thumbnail import ThumbnailEncoder
from evaluation.features.image_set import ImageSet, read_image_set
from evaluation.report.encoder_check import WeakEncoderError, check_encoder, compare_probes
from evaluation.report.evaluate import evaluate


def planted(n: int, *, shift: float, seed: int, classes: int = 2) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    centers = np.eye(classes, 6) * shift
    return rng.normal(size=(n, 6)) + centers[codes], [f"class {code}" for code in codes]


def test_accuracy_is_scikit_learns() -> None:
    features, labels = planted(90, shift=1.5, seed=0, classes=3)
    thumbnails, _ = planted(90, shift=0.5, seed=1, classes=3)
    groups = [f"g{i // 2}" for i in range(90)]
    found = compare_probes(features, thumbnails, labels, groups=groups, seed=4)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=4)
    for rows, estimate in ((features, found.encoder), (thumbnails, found.thumbnails)):
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
        predicted = cross_val_predict(model, rows, labels, groups=groups, cv=folds)
        assert estimate.value == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found.difference.value == pytest.approx(found.encoder.value - found.thumbnails.value)
    assert found.classes == 3


@pytest.mark.parametrize(
    ("own", "thumbnails", "verdict"),
    [(3.0, 1.0, "better"), (1.5, 1.5, "unclear"), (0.2, 2.0, "worse"), (12.0, 12.0, "better")],
)
def test_verdicts(own: float, thumbnails: float, verdict: str) -> None:
    features, labels = planted(200, shift=own, seed=0)
    found = compare_probes(features, planted(200, shift=thumbnails, seed=1)[0], labels)
    assert found.verdict == verdict
    said = found.sentence("mine")
    assert "mine" in said
    assert ("may not judge" in said) == (verdict == "worse")
    assert ("not shown to do better" in said) == (verdict == "unclear")


@pytest.mark.slow
def test_intervals_cover_a_difference_of_none() -> None:
    """Two encoders as good as each other: the interval holds 0 about as often as it says."""
    held = 0
    for seed in range(24):
        features, labels = planted(60, shift=1.2, seed=2 * seed)
        found = compare_probes(features, planted(60, shift=1.2, seed=2 * seed + 1)[0], labels, seed=seed)
        held += (found.difference.low or 0.0) <= 0 <= (found.difference.high or 0.0)
    assert held >= 20


def test_a_group_never_stands_on_both_sides() -> None:
    """Every image is there four times, under a label drawn by coin: across a leak a probe would know it."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(40, 30))
    labels = [name for name in np.array(["a", "b"])[np.arange(40) % 2] for _ in range(4)]
    rows = np.repeat(base, 4, axis=0)
    groups = [str(i // 4) for i in range(160)]
    leaking = compare_probes(rows, rows, labels).encoder.value or 0.0
    honest = compare_probes(rows, rows, labels, groups=groups).encoder
    assert leaking > 0.95
    assert (honest.low or 0.0) < 0.5 < (honest.high or 0.0)


@pytest.mark.parametrize(
    ("labels", "why"),
    [(["a"] * 30, "all of one class"), (["a"] * 27 + ["b"] * 3, "only 3 groups of images of b")],
)
def test_too_few_to_compare(labels: list[str], why: str) -> None:
    features, _ = planted(30, shift=1.0, seed=0)
    found = compare_probes(features, features, labels)
    assert (found.verdict, found.encoder.value) == ("unknown", None)
    assert why in found.sentence("mine")


def test_a_sample_keeps_the_rare_class(tmp_path: Path) -> None:
    paths, labels = [], []
    for i in range(60):
        rare = i % 10 == 0
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (16, 16), (250 if rare else 10, i, 0)).save(path)
        paths.append(path)
        labels.append("rare" if rare else "common")
    store = FeatureStore(tmp_path / "f.sqlite")
    found = check_encoder(ThumbnailEncoder(4), paths, labels, store=store, most=20)
    assert found.difference.n == 20
    assert found.classes == 2
    assert found.encoder.value == 1.0
    with pytest.raises(ValueError, match="give one row a label"):
        compare_probes(np.zeros((3, 2)), np.zeros((3, 2)), ["a", "b"])


class Blind:
    """Noise drawn from the pixels."""

    uri, fingerprint, dim = "blind", "b" * 64, 12

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        seeds = [int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "big") for image in images]
        rows = [np.random.default_rng(seed).normal(size=self.dim) for seed in seeds]
        return np.array(rows, dtype=np.float32).reshape(len(images), self.dim)


def write_colors(folder: Path, *, seed: int) -> ImageSet:
    """Twenty reddish and twenty bluish pictures in a folder each."""
    rng = np.random.default_rng(seed)
    for name, tint in (("red", (200, 60, 60)), ("blue", (60, 60, 200))):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            pixels = np.clip(rng.normal(tint, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return read_image_set(folder)


def test_an_evaluation_by_a_weak_encoder_is_refused_or_marked(tmp_path: Path) -> None:
    sets = write_colors(tmp_path / "real", seed=0), write_colors(tmp_path / "made", seed=1)
    store = FeatureStore(tmp_path / "f.sqlite")
    with pytest.raises(WeakEncoderError, match=r"may not judge.*--allow-weak-encoder"):
        evaluate(*sets, [Blind()], store=store, metrics=["mmd"])
    alone = evaluate(*sets, [Blind()], store=store, metrics=["duplicates"])  # asks no encoder
    assert {row.metric for row in alone.rows} == {"duplicates"}
    allowed = evaluate(*sets, [Blind()], store=store, metrics=["mmd"], allow_weak_encoder=True)
    assert {row.estimate.status for row in allowed.rows} == {"unreliable"}
    assert any("may not judge" in warning for warning in allowed.card["warnings"])
    good = evaluate(*sets, [ThumbnailEncoder(4)], store=store, metrics=["mmd"])
    assert {row.estimate.status for row in good.rows} == {"ok"}
    assert "is right on 100.0 %" in good.card["encoders"][0]["beside thumbnails"]
