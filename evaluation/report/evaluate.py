"""Two sets of images, some encoders, some metrics: a table of Estimates and the card of how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.encoders.base import Encoder, TextEncoder
from evaluation.features.feature_store import FeatureStore, Progress, told
from evaluation.features.image_set import EvaluationError, ImageSet
from evaluation.metrics.alignment import CLIPSCORE_PREFIX, class_weights
from evaluation.report.calibration import FLOOR, CalibrationError, calibrate
from evaluation.report.copies import own_copies, training_copies
from evaluation.report.encoder_check import EncoderCheck, WeakEncoderError, check_encoder
from evaluation.report.measures import METRICS, Judge, Measured, Sample, encoder_label
from evaluation.report.second_encoder import Seen, gap_rows
from evaluation.report.slices import KEYS, parts_of
from evaluation.report.table import CopyPair, Evaluation, Row

__all__ = ["NAMES", "CopyPair", "Evaluation", "EvaluationError", "Row", "evaluate"]

Texts = Mapping[str, Mapping[str, Sequence[str]]]
NAMES = (*METRICS, "duplicates", "memorization", "classifier")
"""What `evaluate` can be asked for."""


def evaluate(
    real: ImageSet,
    generated: ImageSet,
    encoders: Sequence[Encoder],
    *,
    store: FeatureStore,
    metrics: Sequence[str] | None = None,
    by: Sequence[str] = (),
    cross: bool = False,
    second: Encoder | None = None,
    training: ImageSet | None = None,
    held_out: ImageSet | None = None,
    texts: Texts | None = None,
    floor: float = FLOOR,
    allow_uncalibrated: bool = False,
    allow_weak_encoder: bool = False,
    seed: int = 0,
    level: float = 0.95,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Measure generated images against real ones, whole and by category or center.

    Args:
        real, generated: the two sets. Folders of generated images may be named by the real set's labels
            ("polyp") in place of its categories ("polyps").
        encoders: one or more; every metric is computed in each one's space and named by it.
        store: features are taken from it and kept there; a second call encodes nothing.
        metrics: of `NAMES`; when not given, all that the encoders and sets allow.
        by: of ``category`` and ``center``. A set that does not know a key is used whole for each value of the
            other set's (and the card warns); a value that one set lacks gives ``undefined`` rows. A part with
            fewer than 16 images of either set has no row that is ``ok``.
        cross: also each category in each center; needs both in `by`.
        second: a second encoder family, measured like the first of `encoders` and compared with it
            (`gap_rows`).
        training: real images that the generator was trained on: what copies are looked for in, and what the
            classifier is trained on.
        held_out: real images that it has never seen: what copies are calibrated on and the classifier tested
            on (there the pool ``test`` alone, if the set has pools).
        texts: category -> class -> texts, for alignment: what the images should show, against the rest.
        floor: AUROC on real images below which an encoder's alignment is refused for a category.
        allow_uncalibrated: report it nevertheless, as ``unreliable``.
        allow_weak_encoder: measure by an encoder that tells the real images' categories apart worse than 8x8
            thumbnails do; all that it measures is ``unreliable``.
        seed: of every shuffle and subsample.
        level: coverage of the intervals.
        on_progress: called with (what, images done, images).

    Raises:
        EvaluationError: an unknown metric or key, no encoder, an empty set, or a key that neither set knows.
        WeakEncoderError: an encoder does worse than thumbnails on the real images.
        FeatureStoreError: an image that cannot be read; the message names it.
    """
    generated = generated.named_as(real)
    training, held_out = (x if x is None else x.named_as(real) for x in (training, held_out))
    if second is not None and all(second.fingerprint != one.fingerprint for one in encoders):
        encoders = [*encoders, second]
    names = _check(real, generated, encoders, metrics, by, cross, second, training, held_out)
    names = names or _default(encoders, texts, generated, training, held_out)
    warned = _warnings(real, generated, by)
    rows: list[Row] = []
    cards = []
    parts = parts_of(real, generated, by, cross=cross)
    seen: dict[str, Seen] = {}
    if second is None and not {*METRICS, "classifier"} & set(names):
        encoders = []  # copies are looked for among thumbnails: nothing to encode
    for encoder in encoders:
        label = encoder_label(encoder, encoders)
        features = []
        for what, images in (("real", real), ("generated", generated)):
            note = f"{label}: {what}"
            features.append(
                store.features(encoder, images.paths, on_progress=told(on_progress, note, len(images)))
            )
        check = _check_encoder(encoder, real, store, seed, allow_weak_encoder, warned)
        weak = check is not None and check.verdict == "worse"
        wants = "alignment" in names or second is not None
        judge = _judge(encoder, features[0], real, generated, texts if wants else None, floor, warned)
        card: dict[str, Any] = {
            "label": label,
            "address": encoder.uri,
            "fingerprint": encoder.fingerprint,
            "features": encoder.dim,
            "preprocessing": dict(getattr(encoder, "preprocessing", {})) or "not stated",
        }
        if check is not None:
            card["beside thumbnails"] = check.sentence(encoder.uri)
        measured = Measured(encoder, label, features[0], seed=seed, level=level)
        seen[encoder.fingerprint] = Seen(measured, features[1], judge)
        card["bandwidth of the MMD"] = measured.bandwidth
        if judge is not None and judge.calibration is not None:
            card["calibration"] = judge.calibration.to_dict()
        cards.append(card)
        for part in parts:
            sample = Sample(
                features[0][part.of_real],
                features[1][part.of_generated],
                _targets(generated, part.of_generated),
                judge,
                allow_uncalibrated,
            )
            sizes = len(part.of_real), len(part.of_generated)
            for name in names:
                for found in METRICS[name].measure(measured, sample) if name in METRICS else ():
                    estimate = part.marked(found.estimate)
                    if weak and estimate.status == "ok":
                        estimate = replace(estimate, status="unreliable")
                    rows.append(Row(name, found.name, encoder.uri, part.name, found.better, *sizes, estimate))
        if "classifier" in names and training is not None and held_out is not None:
            from evaluation.report.classifier_rows import classifier_rows

            rows += classifier_rows(
                encoder,
                label,
                generated,
                training,
                held_out,
                parts,
                store=store,
                level=level,
                seed=seed,
                on_progress=on_progress,
            )
    if second is not None:
        shown = real.columns.get("category"), generated.columns.get("category")
        pair = seen[encoders[0].fingerprint], seen[second.fingerprint]
        rows += gap_rows(*pair, shown, parts, allow_uncalibrated=allow_uncalibrated, level=level)
    clusters: tuple[tuple[str, ...], ...] = ()
    pairs: tuple[CopyPair, ...] = ()
    if "duplicates" in names:
        repeated, clusters = own_copies(
            real, generated, parts, store=store, level=level, seed=seed, on_progress=on_progress
        )
        rows += repeated
    if "memorization" in names and training is not None and held_out is not None:
        copies = training_copies(
            generated, training, held_out, parts, store=store, level=level, on_progress=on_progress
        )
        rows += copies.rows
        pairs = copies.pairs
    order = {part.name: number for number, part in enumerate(parts)}
    rows.sort(key=lambda row: order[row.part])
    unreliable = sum(row.estimate.status != "ok" for row in rows)
    if unreliable:
        warned.append(f"{unreliable} of {len(rows)} rows are unreliable or undefined; see their status")
    sets = {"real": real, "generated": generated, "training": training, "held out": held_out}
    return Evaluation(
        tuple(rows),
        {
            "settings": {
                "metrics": list(dict.fromkeys(row.metric for row in rows)),
                "by": list(by),
                "crossed": cross,
                "seed": seed,
                "level": level,
                "calibration floor": floor,
                "uncalibrated judges allowed": allow_uncalibrated,
                "weak encoders allowed": allow_weak_encoder,
                "dtype": "features float32, metrics float64",
            },
            "sets": {name: _set_card(images) for name, images in sets.items() if images is not None},
            "encoders": cards,
            "versions": _versions(),
            "warnings": warned,
        },
        pairs,
        clusters,
    )


def _check_encoder(
    encoder: Encoder, real: ImageSet, store: FeatureStore, seed: int, allow_weak: bool, warned: list[str]
) -> EncoderCheck | None:
    """The encoder beside thumbnails, on the categories of the real images; None where they are not known."""
    categories = real.columns.get("category", ())
    if len(set(categories)) < 2:
        return None
    check = check_encoder(encoder, real.paths, categories, store=store, groups=real.groups or None, seed=seed)
    if check.verdict == "worse" and not allow_weak:
        raise WeakEncoderError(
            f"{check.sentence(encoder.uri)} Give another --encoder, say timm:NAME, transformers:ADDRESS or a "
            "CLIP trained on such images (promptopt train clip); or --metrics memorization,duplicates, which "
            "need none; or --allow-weak-encoder, which marks all that it measures unreliable"
        )
    if check.verdict in ("worse", "unclear"):
        warned.append(check.sentence(encoder.uri))
    return check


def _judge(
    encoder: Encoder,
    features: NDArray[np.float32],
    real: ImageSet,
    generated: ImageSet,
    texts: Texts | None,
    floor: float,
    warned: list[str],
) -> Judge | None:
    if not isinstance(encoder, TextEncoder) or not texts:
        return None
    wanted = set(generated.columns.get("category", ()))
    used = {name: classes for name, classes in texts.items() if name in wanted}
    weights = {name: class_weights(encoder, classes) for name, classes in used.items()}
    prefixed = {
        name: class_weights(encoder, classes, prefix=CLIPSCORE_PREFIX) for name, classes in used.items()
    }
    cut = {text for w in (*weights.values(), *prefixed.values()) for text in w.truncated}
    if cut:
        warned.append(
            f"{encoder.uri}: {len(cut)} texts are longer than {encoder.context_length} tokens and were cut, "
            f"say {min(cut)!r}"
        )
    try:
        categories = real.columns.get("category", ())
        groups = real.groups or None
        known = calibrate(features, categories, weights, groups=groups, floor=floor, allow_below=True)
    except (CalibrationError, ValueError) as error:
        warned.append(f"{encoder.uri}: not calibrated on real images: {error}")
        return Judge(weights, prefixed, None)
    for name in known.auroc:
        try:
            known.require(name)
        except CalibrationError as error:
            warned.append(f"{encoder.uri}: {error}")
    return Judge(weights, prefixed, known)


def _check(
    real: ImageSet,
    generated: ImageSet,
    encoders: Sequence[Encoder],
    metrics: Sequence[str] | None,
    by: Sequence[str],
    cross: bool,
    second: Encoder | None,
    training: ImageSet | None,
    held_out: ImageSet | None,
) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(metrics or ()))
    for name in names:
        if name not in NAMES:
            raise EvaluationError(f"metric {name!r} does not exist; use {', '.join(NAMES)}")
    if not encoders:
        raise EvaluationError("no encoder; give one or more")
    if second is not None and second.fingerprint == encoders[0].fingerprint:
        raise EvaluationError(
            f"the second encoder, {second.uri}, is the first one; give one of another family"
        )
    if cross and set(by) != set(KEYS):
        raise EvaluationError(f"cross needs {' and '.join(KEYS)} in by, which has {', '.join(by) or 'none'}")
    for name in {"memorization", "classifier"} & set(names):
        if training is None or held_out is None:
            raise EvaluationError(
                f"metric {name!r} needs the real images that the generator was trained on and others that it "
                f"has not seen: give a prepared data set with pools in place of {real.root}, or name the "
                "training images too"
            )
    if "classifier" in names:
        _check_categories({"generated": generated, "training": training, "held out": held_out})
    for images in (real, generated, *(x for x in (training, held_out) if x is not None)):
        if not len(images):
            raise EvaluationError(f"{images.root}: no image; give another folder")
    for key in by:
        if key not in KEYS:
            raise EvaluationError(f"by {key!r} does not exist; use {', '.join(KEYS)}")
        if key not in real.columns and key not in generated.columns:
            raise EvaluationError(
                f"by {key}: neither {real.root} nor {generated.root} says the {key} of its images; give a "
                "prepared data set, or subfolders named by category"
            )
    return names


def _check_categories(sets: Mapping[str, ImageSet | None]) -> None:
    for name, images in sets.items():
        if images is not None and "category" not in images.columns:
            raise EvaluationError(
                f"metric 'classifier': {images.root} ({name}) does not say the category of its images; give "
                "a prepared data set, or subfolders named by category"
            )


def _default(
    encoders: Sequence[Encoder],
    texts: Texts | None,
    generated: ImageSet,
    training: ImageSet | None,
    held_out: ImageSet | None,
) -> tuple[str, ...]:
    """What at least one encoder and the sets allow."""
    known = training is not None and held_out is not None
    labeled = [images for images in (generated, training, held_out) if images is not None]
    able = {
        "is": any(getattr(e, "probabilities", None) is not None for e in encoders),
        "alignment": bool(texts) and any(isinstance(e, TextEncoder) for e in encoders),
        "memorization": known,
        "classifier": known and all("category" in images.columns for images in labeled),
    }
    return tuple(name for name in NAMES if able.get(name, True))


def _targets(generated: ImageSet, rows: NDArray[np.intp]) -> tuple[str, ...] | None:
    column = generated.columns.get("category")
    return None if column is None else tuple(column[int(row)] for row in rows)


def _warnings(real: ImageSet, generated: ImageSet, by: Sequence[str]) -> list[str]:
    found = []
    for images in (real, generated):
        if images.ignored:
            found.append(
                f"{images.root}: {images.ignored} files are not images by their suffix and were left out"
            )
        found += [
            f"{images.root}: does not say the {key} of its images; all of them stand in every {key}"
            for key in by
            if key not in images.columns
        ]
    for key in by:
        if key in real.columns and key in generated.columns:
            here, there = set(real.columns[key]), set(generated.columns[key])
            found += [f"{key} {value!r} is in the real set alone" for value in sorted(here - there)]
            found += [f"{key} {value!r} is in the generated set alone" for value in sorted(there - here)]
    return found


def _set_card(images: ImageSet) -> dict[str, Any]:
    counts = {
        key: {value: column.count(value) for value in sorted(set(column))}
        for key, column in images.columns.items()
    }
    return {"folder": str(images.root), "images": len(images), "fingerprint": images.fingerprint, **counts}


def _versions() -> dict[str, str]:
    import platform
    from importlib import metadata

    found = {"python": platform.python_version()}
    packages = (
        "promptopt",
        "numpy",
        "scipy",
        "torch",
        "pillow",
        "open_clip_torch",
        "transformers",
        "clean-fid",
    )
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
