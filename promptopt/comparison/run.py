"""Generators side by side on one prepared set: the same prompts, the same seeds, the same real images."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.features.feature_store import FeatureStore
from evaluation.features.image_set import ImageSet
from evaluation.report.evaluate import Texts
from generators.stores.address import store_folder
from promptopt.base.files import writable_folder
from promptopt.base.naming import without_home
from promptopt.comparison.scopes import ComparisonError, Scope, Scopes, center_scopes
from promptopt.comparison.scores import Score, Scorer, Told, image_set
from promptopt.space.prompt_lines import PromptLine
from promptopt.synthesis.manifest import manifest_rows
from promptopt.synthesis.plan import Sampling, SynthesisError
from promptopt.synthesis.run import Synthesis, synthesize
from studies.dataset import Dataset

if TYPE_CHECKING:
    from evaluation.encoders.base import Encoder
    from evaluation.metrics.memorization import Memorization
    from generators.base import Generator

REAL = "real images"
"""Name of the row of real images, which shows what is in reach."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A generator in the comparison: a URI of `generators.load` or a loaded one, and how it is sampled.

    `words` are phrases of the prompts that this one knows under another name, such as a DreamBooth token.
    """

    name: str
    generator: str | Generator
    sampling: Sampling = field(default_factory=Sampling)
    words: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name == REAL:
            raise ComparisonError(
                f"generator name {self.name!r}: write letters, digits, '_', '-' and '.', as in clip=embedded"
            )


@dataclass(frozen=True)
class Made:
    """The images of one generator, and the search for copies among them (None where there was none)."""

    name: str
    uri: str
    fingerprint: str
    sampling: Mapping[str, Any]
    images: ImageSet
    generated: int
    copies: Memorization | None


@dataclass(frozen=True)
class GeneratorComparison:
    """Everything that was measured.

    Attributes:
        scopes: the tables.
        scores: one for each generator, table and metric; those of `REAL` first.
        made: the images by generator, in the order they were given.
        prompts: with the index of the real image that each one describes, where there is one.
        real: the real images that the distances are to; `training` those that copies are looked for among.
        notes: what the numbers do not say.
        facts: settings, data, versions and encoders as plain JSON values.
    """

    scopes: tuple[Scope, ...]
    scores: tuple[Score, ...]
    made: tuple[Made, ...]
    prompts: tuple[tuple[PromptLine, int | None], ...]
    real: ImageSet
    training: tuple[Path, ...]
    notes: tuple[str, ...]
    facts: Mapping[str, Any]

    def of(self, *, scope: str | None = None, metric: str | None = None, main: bool = True) -> list[Score]:
        """The scores of a table or metric; `main` leaves out those that are in the CSV and JSON alone."""
        return [
            score
            for score in self.scores
            if scope in (None, score.scope) and metric in (None, score.metric) and (score.main or not main)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return {
            "format": "promptopt-generator-comparison",
            "version": 1,
            "scopes": [scope.title for scope in self.scopes],
            "generators": [
                {
                    "name": made.name,
                    "uri": without_home(made.uri),
                    "fingerprint": made.fingerprint,
                    "sampling": dict(made.sampling),
                    "images": len(made.images),
                }
                for made in self.made
            ],
            "scores": [score.to_dict() for score in self.scores],
            "notes": list(self.notes),
            **self.facts,
        }


def compare_generators(
    data: Dataset,
    contenders: Sequence[Contender],
    out: str | Path,
    *,
    encoders: Sequence[Encoder],
    texts: Texts,
    store: str | Path,
    pool: str = "test",
    single: str | None = None,
    prompts: Sequence[PromptLine] | None = None,
    category: str | None = None,
    per_prompt: int = 1,
    limit: int | None = None,
    seed: int = 0,
    allow_uncalibrated: bool = False,
    allow_weak_encoder: bool = False,
    device: str = "auto",
    on: str = "here",
    batch_size: int | None = None,
    on_phase: Callable[[str], None] | None = None,
    on_image: Callable[[int, int, bool], None] | None = None,
    on_progress: Told | None = None,
) -> GeneratorComparison:
    """Make the same images by every generator and measure them in the same way.

    Every image of a prompt has the same seed in all generators. What exists is taken from the stores: a
    second call makes and encodes nothing.

    Args:
        data: a prepared set. Its pool `reference` is what was trained on; copies are looked for among it.
        contenders: generators with different names.
        out: the images go to OUT/images/NAME.
        encoders: one or more; distances and alignment are computed in each one's space.
        texts: category -> class -> texts, for the alignment.
        store: folder of images and features, as of a study.
        pool: of the real images that are measured against and, without `prompts`, that lend their captions.
        single: center that is the single one; see `center_scopes`.
        prompts: instead of captions; such images belong to no center.
        category: what all `prompts` ask for.
        per_prompt: images of each prompt.
        on: where images are made; see `generators.making.place.Place`.
        limit: that many captions (or prompts), drawn by `seed`; more of them begin with the fewer.
        on_phase: called with the name of what begins; on_image as in `synthesize`, on_progress as in
            `evaluate`.

    Raises:
        ComparisonError: no generator or encoder, a name twice, an empty pool, or an unknown `single`.
        SynthesisError: images that cannot be made; the message begins with the generator.
        generators.GeneratorError, evaluation.FeatureStoreError: as they say.
    """
    names = [contender.name for contender in contenders]
    if not names or len(set(names)) < len(names):
        raise ComparisonError(
            f"generators {', '.join(names) or 'none'}: give one or more, each under its own name"
        )
    if not encoders:
        raise ComparisonError("no encoder; give one or more")
    for name, value in (("limit", limit), ("per_prompt", per_prompt)):
        if value is not None and value < 1:
            raise ComparisonError(f"{name} is {value}; give 1 or more")
    measured = data.where(pool=pool)
    if not len(measured):
        raise ComparisonError(f"{data.root}: no image in the pool {pool!r}; name another with --pool")
    scopes = center_scopes([record.center for record in measured], single=single)
    chosen = _chosen(measured, prompts, limit=limit, seed=seed)
    training = data.where(pool="reference")
    held_out = data.where(pool=("validation", "test"))
    scorer = Scorer(
        real=image_set(data.root, measured, scopes.names),
        training=training,
        held_out=held_out,
        encoders=encoders,
        store=FeatureStore(writable_folder(store_folder(store), "the store") / "features"),
        scopes=scopes.tables,
        texts=texts,
        seed=seed,
        allow_uncalibrated=allow_uncalibrated,
        allow_weak_encoder=allow_weak_encoder,
        on_progress=on_progress,
        notes=list(scopes.notes),
    )
    if prompts is not None and len(scopes.tables) > 1:
        scorer.notes.append(
            "the prompts belong to no center: the same images are measured against every center's real ones, "
            "and what rests on generated images alone stands in the table of all"
        )
    made = []
    scores: list[Score] = []
    for contender in contenders:
        if on_phase is not None:
            on_phase(contender.name)
        drawn, synthesis = _make(
            contender,
            [line for line, _ in chosen],
            Path(out) / "images" / contender.name,
            per_prompt=per_prompt,
            seed=seed,
            store=store_folder(store) / "images",
            device=device,
            on=on,
            batch_size=batch_size,
            on_image=on_image,
        )
        images = _image_set(synthesis, measured, scopes, chosen, category)
        own, copies = scorer.score(contender.name, images)
        scores += own
        made.append(
            Made(
                contender.name,
                drawn["generator"],
                drawn["fingerprint"],
                _drawn(drawn) | ({"words": dict(contender.words)} if contender.words else {}),
                images,
                synthesis.generated,
                copies,
            )
        )
    if pool != "reference" and len(training):
        floor = _like(made[0].images, training, scopes, seed=seed, whole=prompts is not None)
        if len(floor):
            scores = [*scorer.score_real(REAL, floor), *scores]
    return GeneratorComparison(
        scopes.tables,
        tuple(scores),
        tuple(made),
        tuple(chosen),
        scorer.real,
        tuple(training.paths()),
        tuple(scorer.notes),
        _facts(data, scorer, pool=pool, single=single, per_prompt=per_prompt, limit=limit, seed=seed),
    )


def _chosen(
    measured: Dataset, prompts: Sequence[PromptLine] | None, *, limit: int | None, seed: int
) -> list[tuple[PromptLine, int | None]]:
    """Prompts, with the index of the record that lent its caption; any first few are a fair sample."""
    rng = np.random.default_rng(seed)
    if prompts is not None:
        order = rng.permutation(len(prompts))[:limit] if limit is not None else np.arange(len(prompts))
        return [(prompts[int(i)], None) for i in order]
    chosen: list[tuple[PromptLine, int | None]] = []
    for number, index in enumerate(rng.permutation(len(measured))[:limit], start=1):
        captions = measured.records[int(index)].text
        text = captions[int(rng.integers(len(captions)))].strip()
        chosen.append((PromptLine(text=text, number=number, line=number), int(index)))
    return chosen


def _make(
    contender: Contender,
    lines: Sequence[PromptLine],
    folder: Path,
    *,
    per_prompt: int,
    seed: int,
    store: Path,
    device: str,
    on: str,
    batch_size: int | None,
    on_image: Callable[[int, int, bool], None] | None,
) -> tuple[dict[str, str], Synthesis]:
    """The images, and the first line of their manifest."""
    from generators.making.makers import Makers

    lines = _in_its_words(contender, lines)
    given = contender.generator
    try:
        with Makers(on, device=device, batch_size=batch_size) as makers:
            made = synthesize(
                lines,
                makers.load(given) if isinstance(given, str) else given,
                folder,
                per_prompt=per_prompt,
                seed=seed,
                sampling=contender.sampling,
                store=store,
                on_image=on_image,
            )
    except SynthesisError as error:
        raise SynthesisError(f"{contender.name}: {error}") from error
    return next(manifest_rows(made.manifest)), made


def _in_its_words(contender: Contender, lines: Sequence[PromptLine]) -> list[PromptLine]:
    """The prompts with a generator's own words for things. Raises ComparisonError for a phrase in none."""
    for phrase in contender.words:
        if not any(phrase.lower() in line.text.lower() for line in lines):
            raise ComparisonError(
                f"{contender.name}: no prompt has the words {phrase!r}; the first prompt is {lines[0].text!r}"
            )
    said = []
    for line in lines:
        text = line.text
        for phrase, own in contender.words.items():
            text = re.sub(re.escape(phrase), own.replace("\\", r"\\"), text, flags=re.IGNORECASE)
        said.append(replace(line, text=text))
    return said


def _drawn(row: Mapping[str, str]) -> dict[str, Any]:
    return {
        "steps": int(row["steps"]),
        "guidance": float(row["guidance"]),
        "scheduler": row["scheduler"],
        "negative_prompt": row["negative_prompt"],
    }


def _image_set(
    made: Synthesis,
    measured: Dataset,
    scopes: Scopes,
    chosen: Sequence[tuple[PromptLine, int | None]],
    category: str | None,
) -> ImageSet:
    """The generated images, each with category and center of the record whose caption it was made from."""
    index_of = {line.number: index for line, index in chosen}
    paths, categories, centers = [], [], []
    digest = hashlib.sha256()
    for row in manifest_rows(made.manifest):
        paths.append(made.folder / row["file"])
        digest.update(row["sha256"].encode())
        index = index_of[int(row["prompt_number"])]
        if index is not None:
            record = measured.records[index]
            categories.append(record.category)
            centers.append(scopes.names[record.center])
    columns: dict[str, tuple[str, ...]] = {}
    if centers:
        columns = {"category": tuple(categories), "center": tuple(centers)}
    elif category is not None:
        columns = {"category": (category,) * len(paths)}
    return ImageSet(made.folder, tuple(paths), columns, digest.hexdigest())


def _like(images: ImageSet, training: Dataset, scopes: Scopes, *, seed: int, whole: bool) -> ImageSet:
    """As many real training images as were generated, center by center, as far as there are."""
    real = image_set(training.root, training, scopes.names)
    rng = np.random.default_rng(seed)
    if whole:
        pools = [(np.arange(len(real)), len(images))]
    else:
        centers = images.columns["center"]
        pools = [(real.rows("center", name), centers.count(name)) for name in sorted(set(centers))]
    rows = np.sort(np.concatenate([rng.permutation(pool)[:count] for pool, count in pools]))
    columns = {key: tuple(column[int(i)] for i in rows) for key, column in real.columns.items()}
    if whole:
        columns.pop("center")
    return ImageSet(real.root, tuple(real.paths[int(i)] for i in rows), columns, real.fingerprint)


def _facts(data: Dataset, scorer: Scorer, **settings: Any) -> dict[str, Any]:
    card = scorer.cards[0]
    return {
        "settings": settings,
        "data": {
            "folder": str(data.root),
            "fingerprint": data.fingerprint,
            "measured": len(scorer.real),
            "training": len(scorer.training),
            "held_out": len(scorer.held_out),
        },
        "encoders": [
            {"uri": encoder.uri, "fingerprint": encoder.fingerprint, "dim": encoder.dim}
            for encoder in scorer.encoders
        ],
        "calibration": _calibration(scorer.cards),
        "versions": dict(card["versions"]),
    }


def _calibration(cards: Sequence[Mapping[str, Any]]) -> list[Any]:
    """AUROCs on the real images, once an encoder."""
    found = {
        encoder["label"]: encoder["calibration"]
        for card in cards
        for encoder in card["encoders"]
        if "calibration" in encoder
    }
    return [{"encoder": label, **value} for label, value in found.items()]
