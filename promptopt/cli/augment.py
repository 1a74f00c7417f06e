"""`promptopt augment`: an augmentation set from what studies found, and the proof whether it helps."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from promptopt.cli._options import Device, On, Store
from promptopt.cli._text import say, warn
from promptopt.cli._values import finite, finite_value, run_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluation.encoders.base import Encoder
    from promptopt.augmentation.filters import Reference
    from promptopt.augmentation.results import AugmentationSet
    from promptopt.augmentation.sources import ClassSource

_SHEET = 24  # images of a class
_SHEET_SAYS = (
    "All synthetic. judge: how sure the filter is of the class (a probe's log-odds, a judge's probability).",
    "memorization: distance to the nearest training image over that to the nearest held-out one; low: copy.",
    "duplicates: distance to the nearest image kept before it.",
)


def augment(
    context: typer.Context,
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            callback=run_value,
            help="Run folders of finished studies; together one of each class.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "--output-dir", help="Folder of the set.")],
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Images of each class; or give --ratio.")
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(
            callback=finite_value, help="Images of a class for each real one in the pool reference."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Prepared data set of real images. Default: the study's own.")
    ] = None,
    by_hand: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME=PROMPT",
            help="A class without a study; may be given again, also with the same NAME.",
        ),
    ] = None,
    format: Annotated[  # noqa: A002  the option's name
        Literal["imagefolder", "webdataset"], typer.Option(help="Files in folders, or tar shards.")
    ] = "imagefolder",
    filters: Annotated[
        str,
        typer.Option(help="Any of black, judge, memorization and duplicates, with commas between; or none."),
    ] = "black,judge,memorization,duplicates",
    attempts: Annotated[
        float,
        typer.Option(
            min=1,
            callback=finite_value,
            help="How many images are made at most for each one wanted, refused ones included.",
        ),
    ] = 5.0,
    prompts: Annotated[
        Literal["set", "learned", "baseline", "random", "single"],
        typer.Option(
            help="The study's set (or portfolio), its learned template, its plain prompt, random prompts of "
            "the template, or its best single prompt."
        ),
    ] = "set",
    seed: Annotated[int, typer.Option(min=0, help="The images' own seeds follow from it.")] = 0,
    generator: Annotated[str | None, typer.Option(help="Generator, instead of the studies' own.")] = None,
    allow_other_generator: Annotated[
        bool,
        typer.Option(
            "--allow-other-generator", help="Accept other weights than the prompts were found with."
        ),
    ] = False,
    allow_weak_encoder: Annotated[
        bool,
        typer.Option(
            "--allow-weak-encoder",
            help="Accept a filter's encoder that does worse than 8x8 thumbnails.",
        ),
    ] = False,
    shard_size: Annotated[int, typer.Option(min=1, help="webdataset: images per shard.")] = 1000,
    prove: Annotated[
        bool,
        typer.Option(
            "--prove", help="Train classifiers with and without such sets; OUT/proof.json and .png."
        ),
    ] = False,
    real_per_class: Annotated[
        str, typer.Option(help="--prove: real training images of a class, as 20,50,100; or all.")
    ] = "all",
    rare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS=N",
            help="--prove: a class that has only N real training images; it gets as many synthetic ones as "
            "the others.",
        ),
    ] = None,
    ratios: Annotated[str, typer.Option(help="--prove: synthetic images for each real one.")] = "0.5,1,2",
    compare: Annotated[
        str,
        typer.Option(
            help="--prove: --prompts with others of its choices, with captions (those of the real images), "
            "or none."
        ),
    ] = "baseline,random",
    classifiers: Annotated[
        str,
        typer.Option(
            help="--prove: network (small, on pixels), probe (linear, on features), or an architecture: "
            "resnet18, timm:NAME, resnet18=WEIGHTS.safetensors."
        ),
    ] = "network,probe",
    probe_encoder: Annotated[
        str | None, typer.Option(help="--prove: encoder of the probe; default: the study's.")
    ] = None,
    generator_data: Annotated[
        Path | None,
        typer.Option(
            help="--prove: what the generator was trained on; its pool reference trains classifiers too."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="--prove: trainings of each kind.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="--prove: steps of the network, the same in all.")] = 150,
    image_size: Annotated[int, typer.Option(min=16, help="--prove: side of its images in pixels.")] = 64,
    force: Annotated[bool, typer.Option("--force", help="Replace a set with other settings.")] = False,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images per forward pass; default: the study's.")
    ] = None,
    store: Store = Path("store"),
    on: On = "here",
    device: Device = "auto",
) -> None:
    """Make a set of synthetic images from what studies found, filtered, each with its provenance.

    Stop it any time; the same command goes on and ends with the same bytes. Images that a filter refuses are
    replaced by further seeds; where these run out, what is missing is said and the exit code is 1.

    With --prove: makes OUT/sets/set and those it is compared with, trains classifiers on real images
    alone, with classical augmentation and with these images, tests them on the pool test, and says whether it
    helps. Class folders, filters and generator are as without it.
    """
    from promptopt.augmentation.filters import looks
    from promptopt.augmentation.opening import generator_opener, open_reference
    from promptopt.base.files import writable_folder
    from promptopt.cli._progress import Bars

    sources = _sources(runs, by_hand or [], generator)
    chosen = _names(filters)
    writable_folder(store, "the store")
    reference = open_reference(
        sources,
        data=data,
        store=store,
        filters=chosen,
        device=device,
        allow_weak_encoder=allow_weak_encoder,
    )
    for notice in reference.notices:
        warn(notice)
    how: dict[str, Any] = {
        "reference": reference,
        "filters": chosen,
        "open_generator": generator_opener(
            device=device,
            batch_size=batch_size,
            on=on,
            store=store,
            open_things=context.with_resource(ExitStack()),
            encoders=looks(sources, chosen, reference),
        ),
        "seed": seed,
        "attempts": attempts,
        "allow_other_generator": allow_other_generator,
        "force": force,
    }
    if prove:
        if per_class is not None or ratio is not None or format != "imagefolder":
            raise typer.BadParameter(
                "--prove makes as many images as --ratios and --real-per-class ask for, in an imagefolder; "
                "leave --per-class, --ratio and --format out"
            )
        _prove(
            sources,
            out,
            how,
            counts=_counts(real_per_class),
            rare=_rare(rare or []),
            ratios=_numbers(ratios),
            methods=[prompts, *_names(compare)],
            classifiers=_names(classifiers),
            seeds=seeds,
            steps=steps,
            size=image_size,
            encoder=lambda: _encoder(sources, reference, device, probe_encoder),
            generator_data=generator_data,
        )
        return
    from promptopt.augmentation.opening import image_counts
    from promptopt.augmentation.proof.sets import prompts_of
    from promptopt.augmentation.run import augment as make

    counts = image_counts(sources, per_class=per_class, ratio=ratio, data=reference.data)
    with Bars() as bar:
        made = make(
            prompts_of(sources, prompts, counts, seed=seed),
            out,
            counts=counts,
            format=format,
            shard_size=shard_size,
            on_image=bar.image,
            on_warning=bar.warn,
            **how,
        )
    _summary(made)
    if made.short:
        raise typer.Exit(1)


def _prove(
    sources: "list[ClassSource]",
    out: Path,
    how: dict[str, Any],
    *,
    counts: list[int | None],
    rare: dict[str, int],
    ratios: list[float],
    methods: list[str],
    classifiers: list[str],
    seeds: int,
    steps: int,
    size: int,
    encoder: "Callable[[], Encoder]",
    generator_data: Path | None,
) -> None:
    import math

    from promptopt.augmentation.filters import members
    from promptopt.augmentation.proof.proof import prove
    from promptopt.augmentation.proof.sets import make_sets, variants
    from promptopt.augmentation.proof.verdict import verdict, write_proof
    from promptopt.augmentation.proof.views import PROBE, check_learners, proof_notes, proof_views
    from promptopt.base.files import writable_folder
    from promptopt.cli._progress import Bars
    from studies.dataset import read_dataset

    writable_folder(out, "the proof")
    check_learners(classifiers)
    elsewhere = None if generator_data is None else read_dataset(generator_data)
    reference = how["reference"]
    parts = [members(reference.data, s.positives)[0].where(pool="reference") for s in sources]
    most = max(max(len(part) for part in parts) if n is None else n for n in counts)
    count = math.ceil(max(ratios) * most)
    chosen, left_out = variants(sources, methods, count=count, seed=how["seed"], data=reference.data)
    with Bars() as bar:
        folders = make_sets(
            chosen,
            out / "sets",
            count=count,
            tell=lambda _, done, total, new: bar.image(done, total, new),
            on_warning=bar.warn,
            **how,
        )
    with Bars() as bars:
        views = proof_views(
            sources,
            reference.data,
            folders,
            learners=classifiers,
            size=size,
            steps=steps,
            encoder=encoder() if PROBE in classifiers else None,
            features=reference.features,
            elsewhere=elsewhere,
        )
        proof = prove(
            views,
            out,
            real_per_class=counts,
            rare=rare,
            ratios=ratios,
            seeds=range(seeds),
            notes=proof_notes(reference.data, left_out, elsewhere=elsewhere),
            on_progress=lambda done, total, note: bars.show("training", done, total, note),
        )
    for line in verdict(proof):
        say(line)
    for path in write_proof(proof, out):
        say(path)


def _encoder(
    sources: "list[ClassSource]", reference: "Reference", device: str, other: str | None
) -> "Encoder":
    from evaluation.encoders.load import load_encoder

    if other is not None:
        return load_encoder(other, device=device)
    if reference.encoder is not None:
        return reference.encoder
    return load_encoder(sources[0].config.encoder, device=device)


def _rare(texts: list[str]) -> dict[str, int]:
    try:
        return {name.strip(): int(count) for name, _, count in (text.partition("=") for text in texts)}
    except ValueError:
        raise typer.BadParameter(f"--rare {', '.join(texts)}: write CLASS=N, say instruments=10") from None


def _counts(text: str) -> list[int | None]:
    try:
        return [None if part.strip() == "all" else int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--real-per-class {text!r}: write numbers with commas, or all") from None


def _numbers(text: str) -> list[float]:
    try:
        return [finite(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--ratios {text!r}: write numbers with commas, such as 0.5,1,2") from None


def _sources(runs: list[Path], by_hand: list[str], generator: str | None) -> "list[ClassSource]":
    from promptopt.augmentation.opening import hand_classes
    from promptopt.augmentation.sources import by_hand as from_prompts
    from promptopt.augmentation.sources import read_run
    from promptopt.space.emphasis import emphasis_warning

    sources = [source for run in runs for source in read_run(run, generator=generator)]
    classes = hand_classes(by_hand)
    if warning := emphasis_warning(prompt for prompts in classes.values() for prompt in prompts):
        warn(warning)
    return sources + [from_prompts(name, prompts, like=sources[0]) for name, prompts in classes.items()]


def _names(text: str) -> list[str]:
    return [] if text == "none" else [part.strip() for part in text.split(",")]


def _summary(made: "AugmentationSet") -> None:
    """What there is, what was refused, what is missing."""
    for one in made.classes:
        removed = ", ".join(f"{name} {count}" for name, count in one.removed.items()) or "none"
        say(f"{one.name}: {one.kept} of {one.wanted} images from {one.tried} made; removed: {removed}")
    say(f"{made.images} images in {made.folder}, {made.generated} made now; all synthetic")
    if made.format == "imagefolder":
        say(f"sheet: {_sheet(made)}")
    for one in made.classes:
        if one.short:
            say(
                f"{one.name}: {one.short} images are missing: {one.tried} were made, and the filters "
                f"refused {one.tried - one.kept}. Raise --attempts, leave a filter out, or look "
                "why: the images may be too alike, or of another class",
                err=True,
            )


def _sheet(made: "AugmentationSet") -> Path:
    """The first images of each class, with what the filters say of them; beside the set, not in it."""
    import json
    from itertools import islice

    from promptopt.augmentation.writers import slug
    from promptopt.base.images import read_image
    from promptopt.formatting.pictures import Tile, contact_sheet
    from studies.dataset import METADATA

    rows: list[tuple[str, list[Tile]]] = []
    for one in made.classes:
        tiles = []
        with (made.folder / METADATA).open(encoding="utf-8") as stream:
            own = (
                row for row in map(json.loads, stream) if row["file_name"].startswith(f"{slug(one.name)}/")
            )
            for row in islice(own, _SHEET):
                scores = row["attributes"]["scores"]
                said = " ".join(
                    f"{name} {scores[name]:.3g}"
                    for name in ("judge", "memorization", "duplicates")
                    if scores[name] is not None
                )
                tiles.append(Tile(read_image(made.folder / row["file_name"]), said))
        rows.append((f"{one.name}: {len(tiles)} of {one.kept}", tiles))
    rows += [(line, []) for line in _SHEET_SAYS]
    path = made.folder if made.folder.name not in ("", "..") else made.folder.resolve()
    return contact_sheet(rows, path.with_name(f"{path.name}-sheet.png"), columns=12, tile=112, label_lines=3)
