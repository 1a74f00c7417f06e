"""The first study of a user: a study file and a category file for each class, written from the data set."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from generators.stable_diffusion.facts import parts
from generators.store import ImageStore
from promptopt.base.errors import PromptoptError
from promptopt.base.files import write_text
from promptopt.config.study_file import StudyConfig, load_study, study_from_mapping
from promptopt.space.weighted import escaped
from promptopt.study.guards import refuse_embedded
from studies.dataset import Dataset

if TYPE_CHECKING:
    from PIL import Image

    from generators.base import Generator
    from generators.request import ImageRequest

OPENINGS = ("an image of", "a photo of", "a close photo of")
_SLOW = 20.0  # seconds of one image after which no more are timed


class BeginningError(PromptoptError, ValueError):
    """A first study that cannot be written as asked."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a first study is about; paths as they are to stand in the study file, from its folder.

    Attributes:
        classes: labels of the data set.
        budget: images of the search for each class.
    """

    name: str
    data: str
    classes: Sequence[str]
    generator: str
    encoder: str
    budget: int
    allow_embedded: bool = False


def write_beginning(wanted: Beginning, dataset: Dataset, folder: Path) -> list[Path]:
    """Write `NAME.yaml` and `NAME-CLASS.yaml` for each class; returns them, the study first.

    Raises:
        BeginningError: fewer than two classes, a label that the data set lacks, or a file that is there.
        StudyError: a value that a study cannot have, or an embedded network for images it does not know.
    """
    labels = Counter(record.label for record in dataset)
    for label in wanted.classes:
        if label not in labels:
            raise BeginningError(f"{label!r} is no label of {dataset.root}; there are {', '.join(labels)}")
    if len(set(wanted.classes)) < 2:
        raise BeginningError(
            f"{dataset.root}: a classifier tells two classes or more from each other, and there is "
            f"{', '.join(map(repr, wanted.classes))}",
            remedy=f"Labels there: {', '.join(labels)}.",
        )
    plain = {label: _baseline(label, dataset) for label in wanted.classes}
    files = {label: f"{wanted.name}-{_slug(label)}.yaml" for label in wanted.classes}
    if len(set(files.values())) < len(files):
        files = {label: f"{wanted.name}-{number}.yaml" for number, label in enumerate(files, start=1)}
    texts = {f"{wanted.name}.yaml": _study(wanted, files)}
    texts |= {files[label]: _category(label, plain) for label in wanted.classes}
    for name in texts:
        if (folder / name).exists():
            raise BeginningError(
                "is there already", file=folder / name, remedy="Give another --name, or remove it."
            )
    config = study_from_mapping(yaml.safe_load(texts[f"{wanted.name}.yaml"]), base=folder)
    refuse_embedded(config, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_text(folder / name, text) for name, text in texts.items()]
    load_study(written[0])
    return written


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast one worker makes images.

    Attributes:
        seconds: of an image, in full batches.
        batch: images of a forward pass.
        bytes: of an image in the store, its request with it; None where none was made.
        threads: of the CPU that made it; None on a GPU, or where none was made.
    """

    seconds: float
    batch: int
    bytes: float | None
    threads: int | None


def speed_of(generator: Generator, config: StudyConfig, prompt: str) -> Speed:
    """Speed on this machine, of one batch after a first image, or of that one where it is slow."""
    own = config.generator
    rows: int | None = getattr(generator, "batch_size", None)
    batch = rows or 8
    requests = [
        generator.request(prompt, seed, steps=own.steps, guidance=own.guidance, scheduler=own.scheduler)
        for seed in range(1 + batch)
    ]
    images: list[Image.Image] = []

    def timed(part: Sequence[ImageRequest]) -> float:
        started = time.perf_counter()
        images.extend(generator.generate(part))
        return (time.perf_counter() - started) / len(part)

    on_cpu = requests[0].device == "cpu"
    first = timed(requests[:1])  # on a GPU it may be compiled first
    # a batch is filled up, so one image takes the time of all of its rows
    seconds = first / (rows or 1) if first > _SLOW and on_cpu else timed(requests[1:])
    with tempfile.TemporaryDirectory() as folder:
        store = ImageStore(folder)
        for request, image in zip(requests, images, strict=False):
            store.put(request, image)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return Speed(
        seconds=seconds,
        batch=batch,
        bytes=size / len(images),
        threads=int(parts(requests[0].versions).get("threads", "1")) if on_cpu else None,
    )


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "class"


def _words(label: str) -> str:
    return label.replace("_", " ")


def _baseline(label: str, dataset: Dataset) -> str:
    """The caption of a class whose images share a few; else a plain one."""
    captions = Counter(text for record in dataset.where(label=label) for text in record.text)
    return captions.most_common(1)[0][0] if len(captions) <= 3 else f"{OPENINGS[0]} {_words(label)}"


def _study(wanted: Beginning, files: Mapping[str, str]) -> str:
    q = json.dumps  # a JSON string is a YAML string
    allowed = "" if wanted.allow_embedded else "# "
    classes = "".join(
        f"  {q(label, ensure_ascii=False)}: {{category: {q(file)}}}\n" for label, file in files.items()
    )
    return f"""\
# Which prompts make images that a classifier of these classes learns from?
# Every key: docs, "Study file", or `promptopt study schema`. Then: promptopt study check {wanted.name}.yaml
name: {q(wanted.name)}
# Label of the real images, and the file that says what to ask the generator for. Make those files your own.
classes:
{classes}# The prepared data set.
data: {q(wanted.data)}
# A diffusers folder, or hf:owner/name; steps and guidance are the model's own unless given here.
generator:
  uri: {q(wanted.generator)}
# Reads images and texts: a folder, open_clip:MODEL/TAG or hf:owner/name.
encoder: {q(wanted.encoder)}
set:
  budget: {wanted.budget}  # images of the search, for each class; more find more
confirm:
  images: 100  # fresh images of each method, for each class; 32 at least
seed: 0
{allowed}allow_embedded: true  # let networks that know only the phantom try your images
"""


def _category(label: str, plain: Mapping[str, str]) -> str:
    words, baseline = _words(label), plain[label]
    ends = baseline.endswith(words) and baseline != words
    first = baseline.removesuffix(words).strip() if ends else OPENINGS[0]
    openings = list(dict.fromkeys([first, *OPENINGS]))
    template = f"__opening__ {escaped(words)}__sharpness____light____distance__"

    def items(values: Sequence[str], indent: int) -> str:
        return "".join(f"{' ' * indent}- {json.dumps(one, ensure_ascii=False)}\n" for one in values)

    others = {other: text for other, text in plain.items() if other != label}
    distractors = "".join(
        f"  {json.dumps(other, ensure_ascii=False)}:\n{items([text], 4)}" for other, text in others.items()
    )
    q = json.dumps
    return f"""\
# What to ask the generator for, for the class {label!r}. The words below are a start: put in what an expert
# would say of such an image (size, color, place, device). `promptopt template check THIS` counts and checks;
# `promptopt template mine` finds the words in captions, if you have some.
name: {q(label, ensure_ascii=False)}
title: {q(words, ensure_ascii=False)}
template: {q(template, ensure_ascii=False)}
# An option may be an empty string, which leaves it out; "3::" makes it three times as likely at the start.
wildcards:
  opening:
{items([f"3::{openings[0]}", *openings[1:]], 4)}\
  sharpness: ["2::", ", sharp", ", blurred"]
  light: ["2::", ", bright", ", dim"]
  distance: ["2::", ", seen from near", ", seen from afar"]
# Fixed texts that images are scored against, never the candidate prompt.
texts:
{items([baseline], 2)}\
# What the images must not look like: the other classes, and whatever else you can think of.
distractors:
{distractors}\
# The plain prompt that everything is compared with.
baseline: {q(baseline, ensure_ascii=False)}
"""
