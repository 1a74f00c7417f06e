"""Two sets of images, some encoders, some metrics: a table of Estimates and the card of how it was made."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.calibration import FLOOR, Calibration, CalibrationError, calibrate
from evaluation.encoders.backend import Encoder, TextEncoder
from evaluation.estimate import Estimate
from evaluation.feature_store import FeatureStore
from evaluation.image_set import EvaluationError, ImageSet
from evaluation.measures import METRICS, Measured, Sample, encoder_label
from evaluation.metrics.alignment import CLIPSCORE_PREFIX, ClassWeights, class_weights

Progress = Callable[[str, int, int], None]
Texts = Mapping[str, Mapping[str, Sequence[str]]]
ALL = "all"
KEYS = ("category", "center")


@dataclass(frozen=True)
class Row:
    """One number of the table.

    Attributes:
        metric: the name that was asked for (``fd``...).
        name: what it is called, with its space (``FD (embedded)``).
        encoder: address of the encoder.
        part: ``all``, or ``key=value`` of the images it rests on.
        better: ``lower`` or ``higher``; empty for a figure that only describes.
        n_real, n_generated: images of the two sets in this part.
        estimate: the number; `undefined` with the reason in its `method` where there is none.
    """

    metric: str
    name: str
    encoder: str
    part: str
    better: str
    n_real: int
    n_generated: int
    estimate: Estimate


@dataclass(frozen=True)
class Evaluation:
    """The rows, and the metric card: settings, versions, encoders, sets and warnings as plain JSON values."""

    rows: tuple[Row, ...]
    card: Mapping[str, Any]

    def to_json(self) -> str:
        """Rows and card as one JSON document; the same input gives the same text."""
        rows = [asdict(row) for row in self.rows]
        return json.dumps({"card": self.card, "rows": rows}, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read what `to_json` wrote."""
        document = json.loads(text)
        rows = [Row(**{**row, "estimate": Estimate.from_json(row["estimate"])}) for row in document["rows"]]
        return cls(tuple(rows), document["card"])

    def to_csv(self) -> str:
        """One line a row; what has no value is empty."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        heads = [name for name in Row.__dataclass_fields__ if name != "estimate"]
        writer.writerow([*heads, *Estimate.__dataclass_fields__])
        for row in self.rows:
            cells = [getattr(row, name) for name in heads]
            writer.writerow([*cells, *("" if x is None else x for x in row.estimate.to_dict().values())])
        return stream.getvalue()

    def card_markdown(self) -> str:
        """The card for people."""
        lines = ["# Metric card", ""]
        for heading, content in self.card.items():
            lines += [f"## {heading}", ""]
            if isinstance(content, Mapping):
                lines += [f"- {key}: {_shown(value)}" for key, value in content.items()]
            elif isinstance(content, list):
                lines += [f"- {_shown(item)}" for item in content] or ["- none"]
            else:
                lines.append(_shown(content))
            lines.append("")
        return "\n".join(lines)


def evaluate(
    real: ImageSet,
    generated: ImageSet,
    encoders: Sequence[Encoder],
    *,
    store: FeatureStore,
    metrics: Sequence[str] | None = None,
    by: Sequence[str] = (),
    texts: Texts | None = None,
    floor: float = FLOOR,
    allow_uncalibrated: bool = False,
    seed: int = 0,
    level: float = 0.95,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Measure generated images against real ones, whole and by category or centre.

    Args:
        real, generated: the two sets. Folders of generated images may be named by the real set's labels
            ("polyp") in place of its categories ("polyps").
        encoders: one or more; every metric is computed in each one's space and named by it.
        store: features are taken from it and kept there; a second call encodes nothing.
        metrics: names of `METRICS`; all of them that the encoders allow when not given.
        by: of ``category`` and ``center``. A set that does not know a key is used whole for each value of the
            other set's (and the card warns); a value that one set lacks gives ``undefined`` rows.
        texts: category -> class -> texts, for alignment: what the images should show, against the rest.
        floor: AUROC on real images below which an encoder's alignment is refused for a category.
        allow_uncalibrated: report it nevertheless, as ``unreliable``.
        seed: of every shuffle and subsample.
        level: coverage of the intervals.
        on_progress: called with (what, images done, images).

    Raises:
        EvaluationError: an unknown metric or key, no encoder, an empty set, or a key that neither set knows.
        FeatureStoreError: an image that cannot be read; the message names it.
    """
    generated = generated.named_as(real)
    names = _check(real, generated, encoders, metrics, by)
    warned = _warnings(real, generated, by)
    rows: list[Row] = []
    cards = []
    for encoder in encoders:
        label = encoder_label(encoder, encoders)
        features = []
        for what, images in (("real", real), ("generated", generated)):
            note = f"{label}: {what}"
            features.append(
                store.features(encoder, images.paths, on_progress=_told(on_progress, note, len(images)))
            )
        judged = _judge(encoder, features[0], real, generated, names, texts, floor, warned)
        card: dict[str, Any] = {
            "label": label,
            "address": encoder.uri,
            "fingerprint": encoder.fingerprint,
            "features": encoder.dim,
            "preprocessing": dict(getattr(encoder, "preprocessing", {})) or "not stated",
        }
        measured = Measured(encoder, label, features[0], seed=seed, level=level)
        card["bandwidth of the MMD"] = measured.bandwidth
        if judged is not None and judged.calibration is not None:
            card["calibration"] = judged.calibration.to_dict()
        cards.append(card)
        for part, of_real, of_generated in _parts(real, generated, by):
            sample = Sample(
                features[0][of_real],
                features[1][of_generated],
                _targets(generated, of_generated),
                judged,
                allow_uncalibrated,
            )
            for name in names or _default(encoders, texts):
                for found in METRICS[name].measure(measured, sample):
                    sizes = (len(of_real), len(of_generated))
                    rows.append(
                        Row(name, found.name, encoder.uri, part, found.better, *sizes, found.estimate)
                    )
    unreliable = sum(row.estimate.status != "ok" for row in rows)
    if unreliable:
        warned.append(f"{unreliable} of {len(rows)} rows are unreliable or undefined; see their status")
    return Evaluation(
        tuple(rows),
        {
            "settings": {
                "metrics": list(dict.fromkeys(row.metric for row in rows)),
                "by": list(by),
                "seed": seed,
                "level": level,
                "calibration floor": floor,
                "uncalibrated judges allowed": allow_uncalibrated,
                "dtype": "features float32, metrics float64",
            },
            "sets": {"real": _set_card(real), "generated": _set_card(generated)},
            "encoders": cards,
            "versions": _versions(),
            "warnings": warned,
        },
    )


@dataclass(frozen=True)
class Judge:
    """The texts of each category in an encoder's space, and how well it knows the categories."""

    weights: Mapping[str, ClassWeights]
    prefixed: Mapping[str, ClassWeights]
    calibration: Calibration | None


def _judge(
    encoder: Encoder,
    features: NDArray[np.float32],
    real: ImageSet,
    generated: ImageSet,
    names: Sequence[str],
    texts: Texts | None,
    floor: float,
    warned: list[str],
) -> Judge | None:
    if not isinstance(encoder, TextEncoder) or not texts or (names and "alignment" not in names):
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
        known = calibrate(features, real.columns.get("category", ()), weights, floor=floor, allow_below=True)
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
) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(metrics or ()))
    for name in names:
        if name not in METRICS:
            raise EvaluationError(f"metric {name!r} does not exist; use {', '.join(METRICS)}")
    if not encoders:
        raise EvaluationError("no encoder; give one or more")
    for images in (real, generated):
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


def _default(encoders: Sequence[Encoder], texts: Texts | None) -> list[str]:
    """What at least one encoder allows."""
    able = {"is": any(hasattr(e, "probabilities") for e in encoders)}
    able["alignment"] = bool(texts) and any(isinstance(e, TextEncoder) for e in encoders)
    return [name for name in METRICS if able.get(name, True)]


def _parts(
    real: ImageSet, generated: ImageSet, by: Sequence[str]
) -> list[tuple[str, NDArray[np.intp], NDArray[np.intp]]]:
    parts = [(ALL, np.arange(len(real)), np.arange(len(generated)))]
    for key in by:
        values = {value for images in (real, generated) for value in images.columns.get(key, ())}
        parts += [(f"{key}={v}", real.rows(key, v), generated.rows(key, v)) for v in sorted(values)]
    return parts


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


def _told(on_progress: Progress | None, what: str, total: int) -> Callable[[int], None] | None:
    return None if on_progress is None else lambda done: on_progress(what, done, total)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_shown(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
