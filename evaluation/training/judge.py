"""Trains the judge on the ``attributes`` of a data set: every head at once, unknown values left out of the
loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from evaluation.classifier.judge import (
    CATEGORY_NAMES,
    COUNT_NAMES,
    HEADS,
    KIND_NAMES,
    LOCATION_NAMES,
    SIGMOID_HEADS,
    SOFTMAX_HEADS,
    JudgeConfig,
    JudgeNetwork,
    load_judge,
    save_judge,
    to_pixels,
)
from evaluation.classifier.pictures import Pictures, augment, gaussian_blur
from evaluation.training.batches import Batches
from evaluation.training.loop import clear, fingerprint_of, identity_of, is_finished, rng_for, train
from evaluation.training.recipe import JudgeSpec
from promptopt.base.devices import resolve_device
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.folder import alone, digests
from promptopt.base.training.progress import OnProgress
from studies.dataset import Dataset, Record

UNKNOWN = -1
_OPEN_HEADS = ("color", "size", "paris")


@dataclass(frozen=True)
class Targets:
    """What is true of n pictures: ``choices`` head -> int64 (n,), UNKNOWN where it is not known; ``flags``
    head -> float32 (n, columns), NaN where it is not known."""

    choices: Mapping[str, NDArray[np.int64]]
    flags: Mapping[str, NDArray[np.float32]]


@alone
def train_judge(
    spec: JudgeSpec,
    *,
    data: Dataset,
    out: str | Path,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> Path:
    """Train on the reference pool, measure on the validation pool, and write a folder for ``load_judge``.

    The same call continues a run that was cut, to the same weights bit by bit on a CPU; after the end it
    changes nothing. Raises TrainingError if a pool is empty, a value has no name, or ``out`` holds another
    run.
    """
    from evaluation.training.figures import write_metrics

    out = Path(out)
    pool, valid = data.where(pool="reference"), data.where(pool="validation")
    for name, selected in {"reference": pool, "validation": valid}.items():
        if not len(selected):
            raise TrainingError(f"{data.root}: no image in pool {name!r}; the judge needs both")
    identity = identity_of(spec, data)
    if is_finished(out, identity):
        return out

    config = JudgeConfig(
        image_size=spec.image_size, widths=spec.widths, hidden=spec.hidden, names=_names(spec, pool)
    )
    if len(valid) > spec.validation_images:
        chosen = np.linspace(0, len(valid) - 1, spec.validation_images).round().astype(int)
        valid = Dataset(
            root=data.root, records=tuple(valid.records[i] for i in chosen), fingerprint=data.fingerprint
        )
    targets, valid_targets = targets_of(pool.records, config), targets_of(valid.records, config)
    pictures = Pictures(pool.paths(), decode=lambda image: to_pixels(image, spec.image_size))

    place = resolve_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        network = JudgeNetwork(config).to(place)
    batches = Batches(len(pictures), batch_size=spec.batch_size, seed=spec.seed)

    def loss_at(step: int, _: slice) -> Tensor:  # batch normalization wants the whole batch
        rows = batches.rows_at(step)
        images = augment(pictures.batch(rows).to(place), rng_for(spec.seed, 2, step), spec.augmentation)
        return judge_loss(network(images), targets, rows)

    cpu_seconds = train(network, spec, out=out, identity=identity, loss_at=loss_at, on_progress=on_progress)
    save_judge(out, network, config)
    figures = judge_figures(out, valid, valid_targets)
    facts = {
        "identity": fingerprint_of(identity),
        "files": digests(out, "*.safetensors"),
        "spec": spec.model_dump(mode="json"),
        "data_fingerprint": data.fingerprint,
        "training_images": len(pool),
        "parameters": sum(p.numel() for p in network.parameters()),
        "cpu_seconds": round(cpu_seconds, 1),
    }
    _write_judge_card(out, spec, facts, figures)
    write_metrics(out, facts=facts, figures=figures)  # last: its presence says that the run is finished
    clear(out)
    return out


def judge_loss(logits: Mapping[str, Tensor], targets: Targets, rows: NDArray[np.int64]) -> Tensor:
    """Sum over the heads of the mean cross-entropy over the values that are known; 0 for a head without
    any."""
    total = next(iter(logits.values())).sum() * 0
    for head in SOFTMAX_HEADS:
        wanted = torch.from_numpy(targets.choices[head][rows]).to(logits[head].device)
        losses = F.cross_entropy(logits[head], wanted, ignore_index=UNKNOWN, reduction="sum")
        total = total + losses / (wanted != UNKNOWN).sum().clamp(min=1)
    for head in SIGMOID_HEADS:
        truth = torch.from_numpy(targets.flags[head][rows]).to(logits[head].device)
        known = ~truth.isnan()
        losses = F.binary_cross_entropy_with_logits(logits[head], truth.nan_to_num(), reduction="none")
        # nine places are nine questions: their losses add up, as those of separate heads do
        total = total + (losses * known).sum() / known[:, 0].sum().clamp(min=1)
    return total


def targets_of(records: Sequence[Record], config: JudgeConfig) -> Targets:
    """The truth of records as numbers. None is "none" for color, size and paris, and unknown for the others;
    a key that is left out is unknown. Raises TrainingError for a value that has no name in the config."""
    choices = {head: np.full(len(records), UNKNOWN, dtype=np.int64) for head in SOFTMAX_HEADS}
    flags = {
        head: np.full((len(records), config.outputs(head)), np.nan, dtype=np.float32)
        for head in SIGMOID_HEADS
    }
    index = {head: {name: i for i, name in enumerate(names)} for head, names in config.names.items()}
    for row, record in enumerate(records):
        truth = {"category": record.category, **record.attributes}
        for head in SOFTMAX_HEADS:
            if head not in truth or (truth[head] is None and head not in _OPEN_HEADS):
                continue
            name = "none" if truth[head] is None else str(truth[head])
            choices[head][row] = _position(index[head], name, head, record)
        for head in ("text", "box"):
            if (value := truth.get(head)) is not None:
                if not isinstance(value, bool):
                    raise TrainingError(
                        f"{record.file_name}: attribute {head!r}: got {value!r}; write true or false"
                    )
                flags[head][row, 0] = value
        if (places := truth.get("locations")) is not None:
            flags["location"][row] = 0
            for place in places:
                flags["location"][row, _position(index["location"], place, "locations", record)] = 1
    return Targets(choices=choices, flags=flags)


def _position(index: Mapping[str, int], name: str, head: str, record: Record) -> int:
    if name not in index:
        raise TrainingError(
            f"{record.file_name}: attribute {head!r}: {name!r} is not one of {', '.join(index)}"
        )
    return index[name]


def _names(spec: JudgeSpec, train: Dataset) -> dict[str, tuple[str, ...]]:
    names = {"category": CATEGORY_NAMES, "kind": KIND_NAMES, "count": COUNT_NAMES, "location": LOCATION_NAMES}
    for head in _OPEN_HEADS:
        seen = {str(r.attributes[head]) for r in train if r.attributes.get(head) is not None} - {"none"}
        given = spec.names.get(head)  # type: ignore[call-overload]
        names[head] = tuple(given) if given else ("none", *sorted(seen))
    return names


def judge_figures(folder: Path, valid: Dataset, targets: Targets) -> dict[str, Any]:
    """Accuracy of the judge as it lies on disk, per head, over the pictures whose value is known.

    "soft" repeats category and kind on the same pictures blurred (sigma 0.8 pixels at 64 x 64) and with noise
    (SD 0.02), nearer to what a latent decoder gives.
    """
    from PIL import Image

    from evaluation.training.figures import share
    from promptopt.base.images import read_image

    judge = load_judge(folder)
    size = judge.config.image_size
    images = [Image.fromarray(to_pixels(read_image(path), size)) for path in valid.paths()]
    reading = judge.read(images)
    chances = {
        **{head: getattr(reading, f"{head}_probabilities") for head in (*SOFTMAX_HEADS, "location")},
        "text": reading.text[:, None],
        "box": reading.box[:, None],
    }
    figures: dict[str, Any] = {}
    for head in HEADS:
        if head in SOFTMAX_HEADS:
            known = targets.choices[head] != UNKNOWN
            figures[f"{head} accuracy"] = share(
                chances[head].argmax(axis=1)[known] == targets.choices[head][known]
            )
        else:
            known = ~np.isnan(targets.flags[head][:, 0])
            right = (chances[head][known] > 0.5) == (targets.flags[head][known] > 0.5)
            label = "location, all nine right" if head == "location" else f"{head} accuracy"
            figures[label] = share(right.all(axis=1))
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
    soft = gaussian_blur(pixels.float() / 255, torch.full((len(images),), 0.8 * size / 64))
    noise = rng_for(0, 3).standard_normal(soft.shape, dtype=np.float32) * 0.02
    soft = ((soft + torch.from_numpy(noise)).clamp(0, 1) * 255).round().byte()
    soft_reading = judge.read([Image.fromarray(x) for x in soft.permute(0, 2, 3, 1).numpy()])
    for head in ("category", "kind"):
        known = targets.choices[head] != UNKNOWN
        best = getattr(soft_reading, f"{head}_probabilities").argmax(axis=1)
        figures[f"{head} accuracy, soft"] = share(best[known] == targets.choices[head][known])
    return figures


def _write_judge_card(
    folder: Path, spec: JudgeSpec, facts: Mapping[str, Any], figures: Mapping[str, Any]
) -> None:
    from evaluation.training.figures import write_card

    write_card(
        folder,
        title="Judge",
        purpose=(
            "A small convolutional network that reads category, kind, count, places, color, size, Paris "
            "class, text and overlay box in an image like those it was trained on. "
            "Not a medical device: no clinical use."
        ),
        license_id=spec.license,
        facts=[
            ("parameters", f"{facts['parameters']:,}"),
            ("training images", f"{facts['training_images']:,} (pool reference)"),
            ("steps x batch", f"{spec.steps} x {spec.batch_size}, seed {spec.seed}"),
            ("CPU time", f"{facts['cpu_seconds'] / 60:.1f} minutes"),
            ("data set fingerprint", str(facts["data_fingerprint"])),
        ],
        figures=figures,
        notes=["Figures are of the float16 weights in this folder. 'soft': blurred and with noise added."],
    )
