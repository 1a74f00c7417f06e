"""Options of the commands that serve pages."""

from typing import Annotated

import typer

Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
Host = Annotated[str, typer.Option(help="Where to listen; other machines need --allow-remote.")]
AllowRemote = Annotated[
    bool, typer.Option("--allow-remote", help="Let other machines in, without a password.")
]
