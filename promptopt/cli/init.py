"""`promptopt init`: a first study, asked for or by options."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.cli._options import AllowEmbedded, Device, Store
from promptopt.cli._text import say, warn

if TYPE_CHECKING:
    from promptopt.study.beginning import Beginning
    from studies.dataset import Dataset

_WORK = Path("work")


def init(
    data: Annotated[
        Path | None, typer.Option(help="Folder of a prepared data set (promptopt data prepare).")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="A,B", help="Labels of the data set; default: all of them.")
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(
            help="embedded, a diffusers folder or hf:owner/name; default: work/sd/pipeline, trained next."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="embedded, a folder, open_clip:MODEL/TAG or hf:owner/name; default: work/clip, trained next."
        ),
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=16, help="Images of the search, for each class; default: 600.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the study, its files and its run folder.")] = "first",
    out: Annotated[
        Path, typer.Option("--out", "--output-dir", help="Folder for the study file and the category files.")
    ] = Path(),
    measure: Annotated[
        bool, typer.Option(help="Make a few images to say how long the study will take.")
    ] = True,
    allow_embedded: AllowEmbedded = False,
    store: Store = Path("store"),
    device: Device = "auto",
) -> None:
    """Write a study file and a category file for each class, say what the study costs, and what is next.

    On a terminal, what is not given is asked for.
    """
    from studies.dataset import read_dataset

    asking = _on_terminal()
    if data is None:
        if not asking:
            raise typer.BadParameter(
                "give the folder of a prepared data set, which 'promptopt data prepare folders DIR OUT' "
                "makes of your images",
                param_hint="--data",
            )
        data = Path(typer.prompt("Folder of the prepared data set"))
    dataset = read_dataset(data)
    labels = list(dict.fromkeys(sorted(record.label for record in dataset)))
    if classes is None and asking:
        classes = typer.prompt("Classes, separated by commas", default=",".join(labels))
    chosen = [one.strip() for one in classes.split(",")] if classes is not None else labels
    generator = _network(
        generator, dataset, out, asking=asking, trained=_WORK / "sd" / "pipeline", what="Generator"
    )
    encoder = _network(encoder, dataset, out, asking=asking, trained=_WORK / "clip", what="Encoder")
    if budget is None:
        budget = typer.prompt("Images for each class", default=600, type=int) if asking else 600
    from promptopt.study.beginning import Beginning, write_beginning

    wanted = Beginning(
        name=name,
        data=_from(out, data),
        classes=chosen,
        generator=generator,
        encoder=encoder,
        budget=budget,
        allow_embedded=allow_embedded,
    )
    files = write_beginning(wanted, dataset, out)
    say("wrote " + ", ".join(map(str, files)))
    _costs(files[0], wanted, measure=measure, store=store, device=device)


def _on_terminal() -> bool:
    return sys.stdin.isatty()


def _network(
    given: str | None, dataset: "Dataset", out: Path, *, asking: bool, trained: Path, what: str
) -> str:
    """The address of a network as the study file is to name it: given, asked for, or what is trained next."""
    from studies.phantom import is_phantom

    default = "embedded" if is_phantom(dataset.root) else str(trained)
    if given is None:
        given = str(typer.prompt(what, default=default)) if asking else default
    return _from(out, Path(given)) if Path(given).exists() or given == str(trained) else given


def _from(out: Path, path: Path) -> str:
    """A path as it is written in a file in `out`."""
    import os

    if path.is_absolute():
        return str(path)
    text = os.path.relpath(path, out)
    # before the training there is no folder to tell work/clip from a name on the hub
    return text if text.startswith(os.pardir) else os.curdir + os.sep + text


def _costs(study: Path, wanted: "Beginning", *, measure: bool, store: Path, device: str) -> None:
    """Check the study as far as its networks are there; print its cost and the next commands."""
    from generators.loading import load
    from promptopt.config.study_file import load_study
    from promptopt.formatting.numbers import duration
    from promptopt.study.beginning import speed_of
    from promptopt.study.preview import check_study, most_images

    config = load_study(study)
    missing = _untrained(config.generator.uri, config.encoder)
    images = most_images(config, [0] * len(wanted.classes))
    generator, prompt = None, "an image"
    if not missing:
        setup = (preview := check_study(config, store=store, device=device)).setup
        generator, prompt = setup.generator, setup.category.baseline
        for warning in preview.warnings:
            warn(warning)
    told = f"At most {images:,} images"
    if measure:
        planned = "sd" in missing
        generator = generator or load("embedded" if planned else config.generator.uri, device=device)
        seconds = speed_of(generator, config, prompt).seconds
        by = " by a generator like the embedded one" if planned else ""
        told += f": about {duration(images * seconds)} on this machine ({1 / seconds:.2g} images/s{by})"
    say(f"{told}; then the classifiers' trainings.")
    say("Next:")
    data, encoder = _from_here(str(config.data), wanted.data), _from_here(config.encoder, wanted.encoder)
    judges = {"clip": [], "sd": [] if encoder == "embedded" else ["--encoder", encoder]}
    for words in [
        *(
            ["train", kind, "--data", data, "--out", str(_WORK / kind), "--init", "embedded", *judges[kind]]
            for kind in missing
        ),
        ["study", "check", str(study)],
        ["study", "run", str(study)],
    ]:
        say(f"  {shlex.join(['promptopt', *words])}")


def _from_here(address: str, written: str) -> str:
    """An address of the study as a command takes it: relative paths start here, not at the file."""
    import os

    return address if Path(written).is_absolute() or address == written else os.path.relpath(address)


def _untrained(generator: str, encoder: str) -> list[str]:
    """Which of the networks are those that are trained next, and are not there yet."""
    planned = {"clip": _WORK / "clip", "sd": _WORK / "sd" / "pipeline"}
    named = {"clip": encoder, "sd": generator}
    return [
        kind for kind, path in planned.items() if named[kind] == str(path.resolve()) and not path.exists()
    ]
