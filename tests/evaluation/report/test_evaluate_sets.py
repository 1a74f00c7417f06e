"""What an evaluation finds beside distances: copies, duplicates, a classifier's worth, a second encoder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from evaluation import FeatureStore, load_encoder, median_bandwidth, mmd
from evaluation.encoders.open_clip import build_open_clip, save_open_clip
from evaluation.features.image_set import EvaluationError, ImageSet, read_image_set
from evaluation.report.evaluate import Evaluation, Row, evaluate
from studies.dataset import Record, write_metadata
from tests.evaluation.conftest import MICRO_CONFIG, write_tokenizer

TEXTS = {
    "polyps": {"polyps": ["a photo of a polyp"], "normal": ["normal mucosa"]},
    "normal": {"normal": ["normal mucosa"], "polyps": ["a photo of a polyp"]},
}


def picture(rng: np.random.Generator, category: str) -> Image.Image:
    """A few soft blobs, red for polyps and blue for the rest, and noise."""
    small = rng.integers(0, 256, (5, 5, 3)).astype(float)
    small[..., 2 if category == "polyps" else 0] *= 0.4
    image = Image.fromarray(small.astype(np.uint8)).resize((48, 48), Image.Resampling.BICUBIC)
    pixels = np.asarray(image) + rng.normal(0, 6, (48, 48, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """A prepared set: two categories in two centers, 80 images to train on, 60 to validate, 60 to test."""
    root = tmp_path_factory.mktemp("real")
    rng = np.random.default_rng(0)
    records = []
    for i in range(200):
        category = ("polyps", "normal")[i % 2]
        pool = "reference" if i < 80 else "validation" if i < 140 else "test"
        picture(rng, category).save(root / f"{i:03d}.png")
        center = "AB"[i // 2 % 5 == 0]
        records.append(Record(f"{i:03d}.png", ("a text",), category, category, center, f"g{i}", pool))
    write_metadata(root, records)
    return read_image_set(root)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, real: ImageSet) -> ImageSet:
    """Forty new images; of the polyps three are copies of training images, and three show one picture."""
    root = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(1)
    for category in ("polyps", "normal"):
        (root / category).mkdir()
        for i in range(20):
            picture(rng, category).save(root / category / f"{i:02d}.png")
    with Image.open(real.paths[4]) as image:
        image.save(root / "polyps" / "00.png")
    with Image.open(real.paths[8]) as image:
        ImageOps.mirror(image).save(root / "polyps" / "01.png")
    with Image.open(real.paths[12]) as image:
        image.crop((0, 0, 43, 43)).resize((48, 48), Image.Resampling.BICUBIC).save(root / "polyps" / "02.png")
    with Image.open(root / "polyps" / "05.png") as image:
        image.save(root / "polyps" / "06.png", optimize=True)
        noisy = np.asarray(image) + rng.normal(0, 3, (48, 48, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / "polyps" / "07.png")
    return read_image_set(root)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return FeatureStore(tmp_path_factory.mktemp("store") / "f.sqlite")


@pytest.fixture(scope="module")
def other_clip(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("other_clip")
    save_open_clip(folder, build_open_clip(MICRO_CONFIG, seed=9), MICRO_CONFIG, write_tokenizer(folder))
    return load_encoder(folder, device="cpu")


def pools(real: ImageSet) -> dict[str, ImageSet]:
    return {"training": real.of_pools("reference"), "held_out": real.of_pools("validation", "test")}


def pick(result: Evaluation, name: str, part: str = "all") -> Row:
    return next(row for row in result.rows if row.name.startswith(name) and row.part == part)


def test_planted_copies_are_found_shown_and_shared_out_by_category(
    real: ImageSet, made: ImageSet, micro_clip: Any, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(micro_clip, "encode_images", lambda _: pytest.fail("no encoder is needed"))
    result = evaluate(
        real, made, [micro_clip], store=store, metrics=["memorization"], by=["category"], **pools(real)
    )
    share = pick(result, "copies of training images").estimate
    assert (share.value, share.n) == (pytest.approx(3 / 40), 40)
    assert pick(result, "copies", "category=polyps").estimate.value == pytest.approx(3 / 20)
    assert pick(result, "copies", "category=normal").estimate.value == 0
    flagged = [pair for pair in result.copies if pair.copy]
    assert {(Path(p.generated).name, Path(p.training).name) for p in flagged} == {
        ("00.png", "004.png"),
        ("01.png", "008.png"),
        ("02.png", "012.png"),
    }
    assert len(result.copies) > 3  # the closest others, to compare with
    assert pick(result, "distance to training").estimate.value < 1  # type: ignore[operator]
    assert Evaluation.from_json(result.to_json()) == replace(result, card=json.loads(json.dumps(result.card)))


def test_duplicates_are_found_in_their_part(
    real: ImageSet, made: ImageSet, micro_clip: Any, store: FeatureStore
) -> None:
    result = evaluate(real, made, [micro_clip], store=store, metrics=["duplicates"], by=["category"])
    assert pick(result, "near-duplicates").estimate.value == pytest.approx(3 / 40)
    assert pick(result, "equal images", "category=polyps").estimate.value == pytest.approx(2 / 20)
    assert pick(result, "near-duplicates", "category=normal").estimate.value == 0
    assert [[Path(file).name for file in files] for files in result.duplicates] == [
        ["05.png", "06.png", "07.png"]
    ]


def test_the_classifiers_arms(real: ImageSet, made: ImageSet, micro_clip: Any, store: FeatureStore) -> None:
    kwargs: dict[str, Any] = {"store": store, "metrics": ["classifier"], **pools(real)}
    fresh = made.take([*range(20), *range(23, 40)])  # without the copies of training images
    result = evaluate(real, fresh, [micro_clip], by=["category", "center"], **kwargs)
    for arm in ("R->R (TRTR)", "S->R (TSTR)", "R->S (TRTS)"):
        row = pick(result, f"{arm} balanced accuracy")
        assert row.estimate.value > 0.7  # type: ignore[operator]
        assert pick(result, f"{arm} recall of polyps", "category=polyps").estimate.value is not None
    assert pick(result, "S->R (TSTR) balanced").estimate.n == 60  # the pool test alone
    assert not [row for row in result.rows if row.part.startswith("center")]
    # swapped labels: what is trained on them is wrong on real images, and a real probe says so
    names = tuple({"polyps": "normal", "normal": "polyps"}[c] for c in fresh.columns["category"])
    wrong = evaluate(real, replace(fresh, columns={"category": names}), [micro_clip], **kwargs)
    for arm in ("S->R (TSTR)", "R->S (TRTS)"):
        assert pick(wrong, f"{arm} balanced").estimate.value < 0.3  # type: ignore[operator]
    # one category alone: nothing to train on, but still something to read
    polyps = fresh.take(i for i, c in enumerate(fresh.columns["category"]) if c == "polyps")
    alone = evaluate(real, polyps, [micro_clip], **kwargs)
    assert pick(alone, "R->S (TRTS) balanced").estimate.value > 0.7  # type: ignore[operator]
    assert pick(alone, "R->R (TRTR) balanced").estimate == pick(result, "R->R (TRTR) balanced").estimate
    lacking = pick(alone, "S->R (TSTR) balanced").estimate
    assert (lacking.status, "images of class 'normal'" in lacking.method) == ("undefined", True)


def test_test_images_among_the_generated_are_refused(
    real: ImageSet, micro_clip: Any, store: FeatureStore
) -> None:
    result = evaluate(
        real, real.of_pools("test"), [micro_clip], store=store, metrics=["classifier"], **pools(real)
    )
    assert all(row.estimate.status == "undefined" for row in result.rows)
    assert "is the same file" in result.rows[0].estimate.method


@pytest.mark.slow
def test_a_second_encoder_and_the_gap(
    real: ImageSet, made: ImageSet, micro_clip: Any, other_clip: Any, store: FeatureStore
) -> None:
    kwargs: dict[str, Any] = {"store": store, "metrics": ["fd", "mmd", "alignment"], "texts": TEXTS}
    result = evaluate(real, made, [micro_clip], second=other_clip, floor=0.0, by=["category"], **kwargs)
    assert len({row.encoder for row in result.rows if row.metric == "fd"}) == 2
    gap = pick(result, "RBF-MMD² gap").estimate
    values = []
    for encoder in (micro_clip, other_clip):
        a, b = (encoder.encode_images([Image.open(p) for p in s.paths]) for s in (made, real))
        values.append(mmd(a, b, bandwidth=median_bandwidth(b)).value)
    assert gap.value == pytest.approx(values[1] - values[0], abs=1e-6)
    assert gap.low < gap.value < gap.high  # type: ignore[operator]
    seen = pick(result, "alignment gap").estimate
    assert (seen.status, seen.n) == ("ok", 40)
    assert pick(result, "alignment gap", "category=polyps").estimate.n == 20
    same = evaluate(real, made, [micro_clip, other_clip], second=other_clip, floor=0.0, **kwargs)
    assert len({row.encoder for row in same.rows if row.metric == "fd"}) == 2
    refused = evaluate(real, made, [micro_clip], second=other_clip, floor=1.0, **kwargs)
    assert "refused, AUROC of" in pick(refused, "alignment gap").estimate.method
    mute = evaluate(real, made, [micro_clip], second=load_encoder("thumbnail"), floor=0.0, **kwargs)
    assert "reads no texts" in pick(mute, "alignment gap").estimate.method
    assert pick(mute, "RBF-MMD² gap").estimate.value is not None
    with pytest.raises(EvaluationError, match="is the first one"):
        evaluate(real, made, [micro_clip], second=micro_clip, **kwargs)


def test_crossed_parts_hold_both_and_small_ones_are_marked(
    real: ImageSet, made: ImageSet, micro_clip: Any, store: FeatureStore
) -> None:
    kwargs: dict[str, Any] = {"store": store, "metrics": ["mmd", "diversity"]}
    result = evaluate(real, made, [micro_clip], by=["category", "center"], cross=True, **kwargs)
    sizes = {row.part: (row.n_real, row.n_generated) for row in result.rows}
    assert sizes["category=polyps, center=A"] == (80, 20)
    assert sizes["category=normal, center=B"] == (20, 20)
    few = made.take(range(30))  # twenty normal ones, ten polyps
    small = evaluate(real, few, [micro_clip], by=["category", "center"], cross=True, **kwargs)
    row = pick(small, "diversity", "category=polyps, center=B")
    assert (row.estimate.status, row.n_generated) == ("unreliable", 10)
    assert pick(small, "RBF", "category=polyps").estimate.status == "unreliable"
    assert pick(small, "diversity", "category=normal, center=B").estimate.status == "ok"
    with pytest.raises(EvaluationError, match="cross needs category and center"):
        evaluate(real, made, [micro_clip], by=["category"], cross=True, **kwargs)


def test_what_is_missing_is_said(
    real: ImageSet, made: ImageSet, micro_clip: Any, store: FeatureStore, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="'memorization' needs the real images that the generator"):
        evaluate(real, made, [micro_clip], store=store, metrics=["memorization"])
    bare = replace(made, columns={})
    with pytest.raises(EvaluationError, match=r"does not say the category"):
        evaluate(real, bare, [micro_clip], store=store, metrics=["classifier"], **pools(real))
    lone = {"training": real.of_pools("reference"), "held_out": real.take([150])}
    result = evaluate(real, made, [micro_clip], store=store, metrics=["memorization"], **lone)
    assert "held-out groups" in pick(result, "copies").estimate.method
    everything = evaluate(real, made, [micro_clip], store=store, **pools(real))
    assert {row.metric for row in everything.rows} >= {"fd", "duplicates", "memorization", "classifier"}
    assert everything.card["sets"]["held out"]["images"] == 120
