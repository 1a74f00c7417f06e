"""`promptopt train`: the networks that a study needs, from a prepared data set."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.cli import group
from promptopt.cli._options import AllowEmbedded, Device, On, Store
from promptopt.cli._text import say

if TYPE_CHECKING:
    from evaluation.report.checkpoint_scores import ValidationJudge
    from generators.training import SdTrainingSpec
    from studies.dataset import Dataset

app = group("Train generators, CLIP encoders and judges on a prepared data set.")

Data = Annotated[
    Path,
    typer.Option(
        help="Folder of a prepared data set, whose reference pool is trained on; sd takes any imagefolder."
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", "--output-dir", help="Folder for the result and the checkpoints; an interrupted run goes on."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; may be given again."),
]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Seed of weights and batches, instead of the recipe's.")
]
Judge = Annotated[
    str,
    typer.Option(
        metavar="ENCODER",
        help="Encoder that scores the validation images (distance, alignment); 'none': only draw them.",
    ),
]


@app.command(short_help="Train or fine-tune Stable Diffusion.")
def sd(
    data: Data,
    out: Out,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe that ships, or a YAML file; default: tiny-finetune with --init, else tiny."
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint to start from: embedded, a diffusers folder, FILE.safetensors or owner/name."
        ),
    ] = None,
    vae: Annotated[
        Path | None, typer.Option(help="Folder of a trained autoencoder; its training is then left out.")
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option(help="Folder that train clip wrote; the text encoder starts from its text tower."),
    ] = None,
    encoder: Judge = "embedded",
    allow_embedded: AllowEmbedded = False,
    store: Store = Path("store"),
    changes: Set = None,
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Train or fine-tune Stable Diffusion; OUT/pipeline becomes a diffusers pipeline folder.

    With a section "lora" in the recipe (or --set lora.rank=16) adapters are trained instead, into OUT/lora.
    """
    from generators.training import load_recipe
    from promptopt.cli._progress import Bars
    from studies.dataset import read_dataset

    name = recipe or ("tiny-finetune" if init else "tiny")
    load_recipe(name, overrides=_seeded(changes, seed))  # its faults are named before the data's
    dataset = read_dataset(data)
    spec = load_recipe(name, overrides=_overrides(dataset, _seeded(changes, seed)))
    # From here on it takes seconds to load the libraries; a fault above shows at once.
    from generators.training import train_sd
    from promptopt.base.training.denormals import denormals

    start = _pipeline_folder(init)
    _no_foreign_bars()
    scores = _judge(spec, dataset, encoder=encoder, allowed=allow_embedded, store=store, device=device)
    with denormals(flushed=True), Bars() as bars:
        folder = train_sd(
            spec,
            data=dataset,
            out=out,
            init=start,
            base=Path(init).name if init is not None and Path(init).exists() else init,
            vae=vae,
            clip=clip,
            device=device,
            judge=scores,
            on_progress=bars.training,
        )
    say(f"wrote {folder}")


@app.command("dreambooth-lora", short_help="Teach a model what the data show, by adapters.")
def dreambooth_lora(
    data: Data,
    out: Out,
    init: Annotated[
        str, typer.Option(help="Model to adapt: embedded, a diffusers folder or hf:owner/name[@revision].")
    ],
    recipe: Annotated[
        str, typer.Option(help="A recipe that ships, or a YAML file with a section 'lora'.")
    ] = "dreambooth-lora",
    encoder: Judge = "embedded",
    allow_embedded: AllowEmbedded = False,
    store: Store = Path("store"),
    changes: Set = None,
    seed: Seed = None,
    on: On = "here",
    device: Device = "auto",
) -> None:
    """Teach a model what the data show under rare tokens, by adapters; OUT/lora becomes the adapter's folder.

    Class images that keep the model from forgetting are drawn first, by the model itself, into STORE; --on
    says where. Validation images are of the weights in training, and so are always drawn here.
    """
    from generators.making.place import Place
    from generators.training import load_recipe
    from promptopt.cli._progress import Bars
    from studies.dataset import read_dataset

    Place.parse(on)
    load_recipe(recipe, overrides=_seeded(changes, seed))  # its faults are named before the data's
    dataset = read_dataset(data)
    spec = load_recipe(recipe, overrides=_overrides(dataset, _seeded(changes, seed)))
    from generators.training import train_dreambooth
    from promptopt.base.training.denormals import denormals

    _no_foreign_bars()
    scores = _judge(spec, dataset, encoder=encoder, allowed=allow_embedded, store=store, device=device)
    with denormals(flushed=True), Bars() as bars:
        folder = train_dreambooth(
            spec,
            data=dataset,
            out=out,
            init=init,
            store=store,
            on=on,
            device=device,
            judge=scores,
            on_progress=bars.training,
        )
    say(f"wrote {folder}; use it as {shlex.quote(f'{init}+lora:{folder}')}")


@app.command(short_help="Train or fine-tune a CLIP encoder.")
def clip(
    data: Data,
    out: Out,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe that ships, or a YAML file; default: clip-finetune with --init, else tiny-clip."
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Encoder to start from: embedded, a folder, open_clip:MODEL/WEIGHTS or hf:owner/name."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Folder with the tokenizer of a new encoder; default: open_clip's own."),
    ] = None,
    changes: Set = None,
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Train or fine-tune a CLIP encoder; OUT becomes a folder in open_clip's format."""
    from evaluation.training import ClipSpec, RecipeError, load_recipe
    from promptopt.cli._progress import Bars
    from studies.dataset import read_dataset, share_out

    recipe = recipe or ("clip-finetune" if init else "tiny-clip")
    spec = load_recipe(recipe, changes=_seeded(changes, seed, key="seed"))
    if not isinstance(spec, ClipSpec):
        raise RecipeError(
            f"recipe {recipe!r} is of kind {spec.kind!r}; use it with 'promptopt train {spec.kind}'"
        )
    dataset = share_out(read_dataset(data))
    from evaluation.training import train_clip
    from promptopt.base.training.denormals import denormals

    with denormals(flushed=True), Bars() as bars:
        folder = train_clip(
            spec,
            data=dataset,
            out=out,
            init=init,
            tokenizer=tokenizer,
            device=device,
            on_progress=bars.training,
        )
    say(f"wrote {folder}")


@app.command(short_help="Train a judge, which reads attributes off an image.")
def judge(
    data: Data,
    out: Out,
    recipe: Annotated[str, typer.Option(help="A recipe that ships, or a YAML file.")] = "judge",
    changes: Set = None,
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Train a judge, which reads attributes off an image, on a data set that states them (the phantom)."""
    from evaluation.training import JudgeSpec, RecipeError, load_recipe
    from promptopt.cli._progress import Bars
    from studies.dataset import read_dataset, share_out

    spec = load_recipe(recipe, changes=_seeded(changes, seed, key="seed"))
    if not isinstance(spec, JudgeSpec):
        raise RecipeError(
            f"recipe {recipe!r} is of kind {spec.kind!r}; use it with 'promptopt train {spec.kind}'"
        )
    dataset = share_out(read_dataset(data))
    from evaluation.training import train_judge
    from promptopt.base.training.denormals import denormals

    with denormals(flushed=True), Bars() as bars:
        folder = train_judge(spec, data=dataset, out=out, device=device, on_progress=bars.training)
    say(f"wrote {folder}")


def _seeded(changes: list[str] | None, seed: int | None, *, key: str = "training.seed") -> tuple[str, ...]:
    return (*(changes or ()), *(() if seed is None else (f"{key}={seed}",)))


def _overrides(dataset: "Dataset", changes: tuple[str, ...]) -> tuple[str, ...]:
    """The changes to a recipe; without scores while training where the data name no pool to score on."""
    if dataset.pooled:
        return changes
    say(f"{dataset.root} names no pools: all images train, none score (validation.every=0)", err=True)
    return ("validation.every=0", *changes)


def _judge(
    spec: "SdTrainingSpec", data: "Dataset", *, encoder: str, allowed: bool, store: Path, device: str
) -> "ValidationJudge | None":
    if not spec.validation.every or encoder == "none":
        return None
    from evaluation.report.checkpoint_scores import ValidationJudge
    from promptopt.study.guards import refuse_embedded_encoders

    refuse_embedded_encoders({"--encoder": [encoder]}, data.root, allowed=allowed)
    return ValidationJudge(encoder, data, store=store / "features", device=device)


def _pipeline_folder(init: str | None) -> Path | None:
    from generators.loading import resolve

    return None if init is None else resolve(init)


def _no_foreign_bars() -> None:
    """The libraries' own bars (one for each file written) would tear ours apart."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
