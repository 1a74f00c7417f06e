"""`promptopt plan`: images, time and disk of a study, before it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.cli._options import Device, On
from promptopt.cli._text import say, terminal, warn
from promptopt.cli._values import finite_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from generators.making.place import Place
    from promptopt.config.study_file import StudyConfig
    from promptopt.study.beginning import Speed
    from promptopt.study.plan import Cost, Part

_NOT_COUNTED = (
    "Not counted: loading the model in each worker, waiting for a cluster's queue, features, trainings of "
    "classifiers, images that filters of `augment` turn down. A search may end sooner, by its certificate."
)


def plan(
    file: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")],
    gpus: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Workers at most, with a GPU each.")
    ] = None,
    images: Annotated[
        int, typer.Option(min=0, help="Images of the augmentation set that is made afterwards.")
    ] = 0,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="IMAGES_PER_SECOND",
            callback=finite_value,
            help="Speed of one worker with full batches; default: measured on this machine.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images per forward pass; default: the study's, or by the device."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, as in study run.")
    ] = None,
    on: On = "here",
    device: Device = "auto",
) -> None:
    """Say what a study costs with one worker and with many: images, minutes, disk, and what limits it.

    The speed is measured on this machine, by one image and one batch, unless --rate gives it. Neither data
    nor encoders are opened; `promptopt study check` looks at those.
    """
    from generators.making.place import Place
    from promptopt.base.settings import parse_changes
    from promptopt.config.study_file import load_study
    from promptopt.study.plan import cost, parts_of
    from promptopt.study.preview import template_sizes
    from promptopt.study.step_width import widened

    if rate is not None and rate <= 0:
        raise typer.BadParameter("give images per second, more than 0", param_hint="--rate")
    place = Place.parse(on)
    config = load_study(file)
    changes = parse_changes(set_ or [])
    if batch_size is not None:
        changes["generator.batch_size"] = batch_size
    if changes:
        config = config.override(changes)
    speed = _given(config, rate) if rate is not None else _measured(config, device=device)
    sizes = template_sizes(config)
    costs = []
    for count in _widths(max(gpus or 1, place.count)):
        own = widened(config, count)
        parts = parts_of(own, sizes, augmentation=images)
        costs.append(cost(own, parts, workers=count, batch=speed.batch, rate=1 / speed.seconds))
    total = sum(part.images for part in parts)
    listed = ", ".join(f"{part.name} {part.images:,}" for part in parts)
    say(f"{config.name}: at most {total:,} images ({listed}) in batches of {speed.batch}.")
    _print(parts, costs)
    for text in dict.fromkeys(one.waiting for one in costs[-1:] if one.waiting):
        say(f"What limits {costs[-1].workers} workers: {text}.")
    say(_speed_and_disk(speed, total, measured=rate is None))
    _cores(place, speed)
    say(_NOT_COUNTED)


def _widths(most: int) -> list[int]:
    """1, 4, 16 ... and the most."""
    return [*(4**i for i in range(8) if 4**i < most), most]


def _given(config: "StudyConfig", rate: float) -> "Speed":
    from promptopt.study.beginning import Speed

    return Speed(seconds=1 / rate, batch=config.generator.batch_size or 16, bytes=None, threads=None)


def _measured(config: "StudyConfig", *, device: str) -> "Speed":
    from generators.loading import load
    from promptopt.cli._progress import Bars
    from promptopt.space.of_category import class_studies, open_category
    from promptopt.study.beginning import speed_of

    first = next(iter(class_studies(config).values()))
    with Bars(transient=True) as bars:
        bars.busy("timing a batch of images")
        generator = load(config.generator.uri, device=device, batch_size=config.generator.batch_size)
        return speed_of(generator, config, open_category(first).baseline)


def _print(parts: "Sequence[Part]", costs: "Sequence[Cost]") -> None:
    from promptopt.cli._sets import plain_table
    from promptopt.formatting.numbers import duration

    table = plain_table("Time by workers; at best: if no worker ever waited")
    for name in ("workers", *(part.name for part in parts), "in all", "at best", "busy"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in costs:
        table.add_row(
            str(one.workers),
            *(duration(seconds) for seconds in (*one.seconds, sum(one.seconds), one.least)),
            f"{100 * one.busy:.0f} %",
        )
    terminal(highlight=False).print(table)


def _speed_and_disk(speed: "Speed", images: int, *, measured: bool) -> str:
    from promptopt.formatting.numbers import file_size

    rate = f"{1 / speed.seconds:.3g} images/s of one worker, {'measured here' if measured else 'as given'}"
    if speed.bytes is None:
        return f"{rate}. Disk: not known without a measurement (leave --rate out)."
    return (
        f"{rate}. Disk: {file_size(images * speed.bytes)} ({file_size(speed.bytes)} an image, as measured)."
    )


def _cores(place: "Place", speed: "Speed") -> None:
    """Processes of one CPU share its cores, which a speed measured with all of them does not show."""
    import os

    cores = os.cpu_count() or 1
    if place.kind == "processes" and speed.threads is not None and place.count * speed.threads > cores:
        warn(
            f"{place.count} processes of {speed.threads} threads share {cores} cores, so they are slower "
            f"than the table says: about as fast as {max(1, cores // speed.threads)}"
        )
