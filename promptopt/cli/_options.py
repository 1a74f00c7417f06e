"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from promptopt.cli._values import finite_value, store_value

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
On = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="PLACE",
        help="Where images are made: here, processes:N, ray?workers=N, ray:ADDRESS?gpus=N&gpu=H100; in bulk "
        "also slurm:PARTITION?jobs=N&gpus=1&time=4h.",
    ),
]
Publish = Annotated[
    str | None,
    typer.Option(metavar="URL", help="A team's database to copy the trials to: postgresql://HOST/DATABASE."),
]
Store = Annotated[
    Path,
    typer.Option(
        callback=store_value,
        metavar="FOLDER|URL",
        help="Images and features, shared by all runs; s3://BUCKET/PREFIX too, for the images.",
    ),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Images per forward pass; default: by the device.")
]
AllowEmbedded = Annotated[
    bool,
    typer.Option(
        "--allow-embedded", help="Let the embedded networks work on images that are not the phantom's."
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps", "--num-inference-steps", min=1, help="Denoising steps; default: the model's own."
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        "--guidance-scale",
        callback=finite_value,
        help="Guidance scale; default: the model's own.",
    ),
]
Scheduler = Annotated[str | None, typer.Option(help="Sampler; default: the model's own.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes a free one.")]
Host = Annotated[str, typer.Option(help="Where to listen; other machines need --allow-remote.")]
AllowRemote = Annotated[
    bool, typer.Option("--allow-remote", help="Let other machines in, without a password.")
]
