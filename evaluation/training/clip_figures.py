"""How well a CLIP does on pictures it has not seen: retrieval among captions, and zero-shot classes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from evaluation.metrics.auroc import auroc
from evaluation.training.figures import share, write_card
from evaluation.training.recipe import ClipSpec
from promptopt.base.images import read_image
from studies.dataset import Dataset

if TYPE_CHECKING:
    from evaluation.encoders.base import TextEncoder
    from evaluation.estimate import Estimate

NORMAL_TEXTS = ("normal mucosa", "normal mucosa without any finding")


def zero_shot_texts(spec: ClipSpec) -> dict[str, list[str]]:
    """Class -> texts: those of the spec, or those of the categories that ship, and ``normal`` beside them."""
    if spec.zero_shot is not None:
        return {name: list(texts) for name, texts in spec.zero_shot.items()}
    from studies.category import CATEGORIES, load_category

    categories = {name: load_category(name) for name in CATEGORIES}
    texts = {name: list(category.texts) for name, category in categories.items()}
    normal = [
        text
        for category in categories.values()
        for name, distractors in category.distractors.items()
        if "normal" in name.lower()
        for text in distractors
    ]
    return {**texts, "normal": list(dict.fromkeys(normal)) or list(NORMAL_TEXTS)}


def clip_figures(
    encoder: "TextEncoder", data: Dataset, classes: Mapping[str, Sequence[str]], *, limit: int
) -> "dict[str, Estimate]":
    """Retrieval and zero-shot figures over at most ``limit`` pictures of ``data``, evenly picked from it.

    Retrieval takes the first caption of each picture: image to text asks whether it is among the k best of
    all distinct captions, text to image whether a picture with that caption is among the k best pictures.
    Zero-shot takes the pictures whose category is a class; the AUROC of a class is that of its log-odds
    against the other classes.
    """
    records = list(data)
    if len(records) > limit:
        records = [records[i] for i in np.linspace(0, len(records) - 1, limit).round().astype(int)]
    images = _unit(_encode(encoder, [data.path(record) for record in records]))
    captions = sorted({record.text[0] for record in records})
    figures: dict[str, Estimate] = {}
    own = np.asarray([captions.index(record.text[0]) for record in records], dtype=np.int64)
    if len(captions) > 1:
        scores = images @ _unit(encoder.encode_texts(captions)).T
        matches = own[:, None] == np.arange(len(captions))
        for direction, table, match in (
            ("image to text", scores, matches),
            ("text to image", scores.T, matches.T),
        ):
            best_match = np.where(match, table, -np.inf).max(axis=1, keepdims=True)
            rank = (table > best_match).sum(axis=1)
            for k in (1, 5):
                figures[f"{direction} R@{k} among {table.shape[1]}"] = share(rank < k)

    names = list(classes)
    inside = np.asarray([record.category in classes for record in records], dtype=bool)
    if inside.any() and len(names) > 1:
        weights = np.stack([_unit(_unit(encoder.encode_texts(list(classes[n]))).mean(axis=0)) for n in names])
        logits = encoder.logit_scale * images[inside] @ weights.T
        truth = np.asarray([names.index(r.category) for r in records if r.category in classes])
        best = logits.argmax(axis=1)
        figures["zero-shot accuracy"] = share(best == truth)
        for i, name in enumerate(names):
            others = logsumexp(np.delete(logits, i, axis=1), axis=1)
            figures[f"zero-shot recall, {name}"] = share(best[truth == i] == i)
            figures[f"zero-shot AUROC, {name}"] = auroc(logits[:, i] - others, truth == i)
    return figures


def write_clip_card(
    folder: Path, spec: ClipSpec, facts: Mapping[str, Any], figures: "Mapping[str, Estimate]"
) -> Path:
    """The card of a trained CLIP."""
    cut = facts["captions_cut_at_context_length"]
    return write_card(
        folder,
        title="CLIP",
        purpose=(
            "Image and text encoder in open_clip's format (`local-dir:`), for scoring images like those it "
            "was trained on. Not a medical device: no clinical use."
        ),
        license_id=spec.license,
        facts=[
            ("started from", str(facts["init"] or "new weights")),
            ("parameters", f"{facts['parameters']:,}"),
            ("training images", f"{facts['training_images']:,} (pool reference)"),
            ("distinct captions", f"{facts['distinct_captions']:,}, {cut} of them cut at the context length"),
            ("steps x batch", f"{spec.steps} x {spec.batch_size}, seed {spec.seed}"),
            ("CPU time", f"{facts['cpu_seconds'] / 60:.1f} minutes"),
            ("data set fingerprint", str(facts["data_fingerprint"])),
        ],
        figures=figures,
        notes=[
            "Figures are of the float16 weights in this folder. Zero-shot texts:",
            "",
            *(f"- {name}: {'; '.join(texts)}" for name, texts in facts["zero_shot_texts"].items()),
        ],
    )


def _encode(encoder: "TextEncoder", paths: Sequence[Path]) -> NDArray[np.float32]:
    blocks = [np.zeros((0, encoder.dim), dtype=np.float32)]
    for chunk in _chunks(paths, 64):
        blocks.append(encoder.encode_images([read_image(path) for path in chunk]))
    return np.concatenate(blocks)


def _chunks(paths: Sequence[Path], size: int) -> Iterable[Sequence[Path]]:
    return (paths[start : start + size] for start in range(0, len(paths), size))


def _unit(features: NDArray[Any]) -> NDArray[np.float64]:
    wide = np.asarray(features, dtype=np.float64)
    return wide / np.linalg.norm(wide, axis=-1, keepdims=True)
