"""`promptopt convert`: weights that are published as pickles, written as safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from promptopt.cli._text import say


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A file of PyTorch weights (.pth, .pt, .bin, .ckpt), a model's folder, or hf:owner/name.",
        ),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A .safetensors file for a file, else a new folder.")
    ],
    like: Annotated[
        str | None,
        typer.Option(
            help="For a file: the timm:NAME or torchvision:NAME that it must fit; tensors get its names."
        ),
    ] = None,
) -> None:
    """Convert pickled weights, such as BiomedCLIP's, once, so that everything else reads safetensors alone.

    Nothing else of promptopt opens a pickle. Here only tensors and plain values are read of it
    (torch.load(weights_only=True)); a file with more is refused. Compare the sha256 with the publisher's.
    """
    from evaluation.encoders.convert import PICKLES, convert_file, convert_folder

    is_file = not source.startswith("hf:") and (Path(source).is_file() or Path(source).suffix in PICKLES)
    if like is not None and not is_file:
        raise typer.BadParameter("--like belongs to a file of weights; a folder says what it is")
    done = convert_file(source, out, like=like) if is_file else convert_folder(source, out)
    say(f"read  {done.source}, {done.tensors} tensors, sha256 {done.source_sha256}")
    say(f"wrote {done.target}, sha256 {done.target_sha256}")
    for note in done.notes:
        say(note, err=True)
