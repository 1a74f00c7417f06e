"""`promptopt push`: a trained model or adapter, an augmentation set or a run to a hub repository."""

from pathlib import Path
from typing import Annotated

import typer

from promptopt.cli._text import say
from promptopt.cli._values import run_value


def push(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            callback=run_value,
            help="Folder of a trained model or LoRA adapter, an augmentation set or a run.",
        ),
    ],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub; made if there is none.")
    ],
    public: Annotated[
        bool, typer.Option("--public", help="Anyone may see it; without this the repository is private.")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="Branch; made if there is none.")] = None,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Let image files through. None may show a patient.")
    ] = False,
) -> None:
    """Upload a folder, after checking every file that would go.

    Of a model: safetensors and text files, with its README.md; pickles, data and (unless told) images stop
    the push before anything is sent. Of an augmentation set: its images, each marked as synthetic, and its
    lists. Of a run: prompts.json and the tables; neither report nor study file, which hold real images
    and paths. The latter two become data sets with a card that is written for them.

    Log in first: hf auth login.
    """
    from promptopt.augmentation.push import is_data, push_data

    if is_data(folder):
        pushed = push_data(folder, repository, revision=revision, private=not public)
    else:
        from generators.training.push import push_folder

        pushed = push_folder(folder, repository, revision=revision, private=not public, images=with_images)
    for name in pushed.files:
        say(name)
    seen = "public" if public else "private"
    say(f"{len(pushed.files)} files, {pushed.size / 1e6:.1f} MB, {seen}: {pushed.url}")
