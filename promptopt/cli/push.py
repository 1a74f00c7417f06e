"""`promptopt push`: a trained model or adapter to a hub repository."""

from pathlib import Path
from typing import Annotated

import typer

from promptopt.cli._text import say


def push(
    folder: Annotated[Path, typer.Argument(help="Folder of a trained model or LoRA adapter.")],
    repository: Annotated[str, typer.Argument(help="owner/name on the hub; made if there is none.")],
    public: Annotated[
        bool, typer.Option("--public", help="Anyone may see it; without this the repository is private.")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="Branch; made if there is none.")] = None,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Let image files through. None may show a patient.")
    ] = False,
) -> None:
    """Upload a model folder, after checking every file in it.

    Only safetensors and text files go, with a README.md; pickles, data and (unless told) images stop the push
    before anything is sent. Log in first: hf auth login.
    """
    from generators.training.push import push_folder

    pushed = push_folder(folder, repository, revision=revision, private=not public, images=with_images)
    for name in pushed.files:
        say(name)
    seen = "public" if public else "private"
    say(f"{len(pushed.files)} files, {pushed.size / 1e6:.1f} MB, {seen}: {pushed.url}")
