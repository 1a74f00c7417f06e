"""`promptopt compare-generators`: a paper's tables and figures, for any generators on one prepared set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptopt.cli._options import AllowEmbedded, BatchSize, Device, Guidance, On, Scheduler, Steps, Store
from promptopt.cli._text import say, terminal, warn
from promptopt.cli._values import finite

if TYPE_CHECKING:
    from promptopt.comparison.run import Contender, GeneratorComparison
    from promptopt.synthesis.plan import Sampling

_STYLES = {"ok": "green", "unreliable": "yellow", "undefined": "red"}


def compare_generators(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A prepared data set.")],
    generator: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=URI",
            help="A generator, with settings of its own behind a ?, such as "
            "strong=embedded?guidance=6&steps=12; once for each generator.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "--output-dir", help="Folder for tables, charts, samples and images.")
    ],
    words: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:PHRASE=OWN",
            help="What a generator calls a phrase of the prompts, such as dreambooth:a polyp=ohwx polyp.",
        ),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENCODER",
            help="As for evaluate; may be given again. Only inception gives an FID. Default: embedded.",
        ),
    ] = None,
    pool: Annotated[str, typer.Option(help="Real images to measure against, and their captions.")] = "test",
    single: Annotated[
        str | None,
        typer.Option(
            help="The center that has a table of its own; the other centers share one, and a third has all."
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts in place of the captions, as for synthesize.")
    ] = None,
    category: Annotated[str | None, typer.Option(help="What all of --prompts ask for.")] = None,
    per_prompt: Annotated[int, typer.Option(min=1, help="Images of each prompt.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many prompts, drawn by the seed.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the images, the draw and every shuffle.")] = 0,
    negative_prompt: Annotated[str, typer.Option(help="What the images should not show.")] = "",
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Category file with the texts for alignment; default: the shipped categories.",
        ),
    ] = None,
    allow_uncalibrated: Annotated[
        bool,
        typer.Option(
            "--allow-uncalibrated", help="Report alignment even by an encoder that fails on the real images."
        ),
    ] = False,
    allow_weak_encoder: Annotated[
        bool,
        typer.Option(
            "--allow-weak-encoder",
            help="Measure by an encoder that knows the real images worse than 8x8 thumbnails do; unreliable.",
        ),
    ] = False,
    allow_embedded: AllowEmbedded = False,
    batch_size: BatchSize = None,
    store: Store = Path("store"),
    on: On = "here",
    device: Device = "auto",
) -> None:
    """Compare generators on one prepared set: distance, Inception score, alignment and share of copies.

    All make the same prompts with the same seeds. Out come a table for each center, and one for all (CSV and
    LaTeX), charts with intervals, samples, the images nearest to training images, and a JSON of everything.
    """
    from evaluation.encoders.load import load_encoder
    from promptopt.cli._progress import Bars
    from promptopt.comparison.output import write_comparison
    from promptopt.comparison.run import compare_generators as compare
    from promptopt.study.checks import fixed_texts
    from promptopt.study.guards import refuse_embedded_encoders
    from promptopt.synthesis.plan import Sampling
    from promptopt.synthesis.prompt_files import read_prompt_file
    from studies.category import CATEGORIES, load_category
    from studies.dataset import read_dataset, share_out

    common = Sampling(negative_prompt=negative_prompt, steps=steps, guidance=guidance, scheduler=scheduler)
    contenders = _with_words([_contender(text, common) for text in generator], words or [])
    listed = None if prompts is None else read_prompt_file(prompts).prompts
    dataset = share_out(read_dataset(data))
    own = [
        load_category(Path(place) if place.endswith((".yaml", ".yml")) else place)
        for place in texts or CATEGORIES
    ]
    classes = {c.name: fixed_texts(c) for c in own}
    uris = encoder or ["embedded"]
    refuse_embedded_encoders({"--encoder": uris}, data, allowed=allow_embedded)
    encoders = [load_encoder(uri, device=device) for uri in uris]
    with Bars() as bars:
        found = compare(
            dataset,
            contenders,
            out,
            encoders=encoders,
            texts=classes,
            store=store,
            pool=pool,
            single=single,
            prompts=listed,
            category=category,
            per_prompt=per_prompt,
            limit=limit,
            seed=seed,
            allow_uncalibrated=allow_uncalibrated,
            allow_weak_encoder=allow_weak_encoder,
            device=device,
            on=on,
            batch_size=batch_size,
            on_phase=bars.begin,
            on_image=bars.image,
            on_progress=lambda what, done, total: bars.show(f"encoded: {what}", done, total),
        )
    files = write_comparison(found, out)
    _print(found)
    made = sum(m.generated for m in found.made)
    images = sum(len(m.images) for m in found.made)
    say(f"{images} images: {made} generated now, {images - made} were there")
    say("wrote " + ", ".join(path.name for path in files) + f" in {out}")


def _contender(text: str, common: "Sampling") -> "Contender":
    """NAME=URI[?key=value&...], its own settings before the common ones."""
    from dataclasses import replace

    from promptopt.comparison.run import Contender

    name, equals, rest = text.partition("=")
    uri, _, query = rest.partition("?")
    if uri.startswith("clip-guided:"):  # it has settings of its own
        parts = query.split("&") if query else []
        its = [part for part in parts if part.partition("=")[0] in ("clip", "mode", "n", "scale")]
        query = "&".join(part for part in parts if part not in its)
        uri += "?" + "&".join(its) if its else ""
    if not equals or not name or not uri:
        raise typer.BadParameter(f"--generator {text!r}: write NAME=URI, as in clip=clip-guided:embedded")
    readers: dict[str, Any] = {"negative_prompt": str, "steps": int, "guidance": finite, "scheduler": str}
    own: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in readers:
            raise typer.BadParameter(f"--generator {text!r}: {key!r} is no setting; use {', '.join(readers)}")
        try:
            own[key] = readers[key](value)
        except ValueError:
            raise typer.BadParameter(f"--generator {text!r}: {key} is {value!r}; write a number") from None
    return Contender(name=name, generator=uri, sampling=replace(common, **own))


def _with_words(contenders: "list[Contender]", words: list[str]) -> "list[Contender]":
    from dataclasses import replace

    for text in words:
        name, colon, rest = text.partition(":")
        phrase, equals, own = rest.partition("=")
        if not colon or not equals or not phrase or name not in {c.name for c in contenders}:
            raise typer.BadParameter(
                f"--words {text!r}: write NAME:PHRASE=OWN with the name of a --generator, "
                "as in dreambooth:a polyp=ohwx polyp"
            )
        contenders = [replace(c, words={**c.words, phrase: own}) if c.name == name else c for c in contenders]
    return contenders


def _print(found: "GeneratorComparison") -> None:
    from rich.table import Table
    from rich.text import Text

    from promptopt.comparison.tables import shown

    console = terminal()
    for scope in found.scopes:
        scores = found.of(scope=scope.title)
        table = Table(title=scope.title, title_justify="left")
        generators = list(dict.fromkeys(score.generator for score in scores))
        table.add_column("metric")
        for generator in generators:
            table.add_column(Text(generator), justify="right")
        for name in dict.fromkeys(score.name for score in scores):
            own = {score.generator: score for score in scores if score.name == name}
            cells = []
            for generator in generators:
                if generator not in own:
                    cells.append(Text(""))
                    continue
                value, interval = shown(own[generator])
                text = f"{value}\n{interval}" if interval else value or "undefined"
                cells.append(Text(text, style=_STYLES[own[generator].estimate.status]))
            table.add_row(Text(f"{name}\n({next(iter(own.values())).better} is better)"), *cells)
        console.print(table)
    errors = terminal(stderr=True, highlight=False, soft_wrap=True)
    for score in found.of():
        if score.estimate.status == "undefined":
            errors.print(Text(f"{score.generator}, {score.scope}: {score.name}: {score.estimate.method}"))
    for note in found.notes:
        warn(note)
