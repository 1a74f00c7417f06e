"""`promptopt dashboard`: a run in the browser, with the images of every prompt."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.cli._options import AllowRemote, Host, Port, Store
from promptopt.cli._text import say, warn
from promptopt.cli._values import finite_value, run_value

if TYPE_CHECKING:
    from promptopt.web.dashboard.copying import Copied


def dashboard(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", callback=run_value, help="A run folder, or the name of one in runs."),
    ],
    port: Port = 8080,
    host: Host = "127.0.0.1",
    allow_remote: AllowRemote = False,
    store: Store = Path("store"),
    refresh: Annotated[
        float,
        typer.Option(
            min=0, callback=finite_value, help="Seconds between looks at a running study; 0: no further look."
        ),
    ] = 15.0,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the copy anew; notes made in the browser are lost.")
    ] = False,
) -> None:
    """Show a run in optuna-dashboard, finished or not: every trial with its prompt, metrics and images.

    A copy is shown (RUN/dashboard); the study's own database is only read, so a running study is not
    disturbed and nothing done in the browser changes it.
    """
    from promptopt.run.images import RunImages, missing_sentence
    from promptopt.web.dashboard.serving import open_dashboard
    from promptopt.web.server import is_loopback

    classes = RunImages.open_classes(run, store=store)

    def told(copied: "Copied") -> None:
        say(f"{copied.trials} trials added to the copy")
        if copied.images_found < copied.images_wanted:
            warn(missing_sentence(copied.images_found, copied.images_wanted, classes[0]))

    if allow_remote and not is_loopback(host):
        warn(
            f"{host}: whoever reaches this machine can see the images and change the copy; there is "
            "no password and no encryption."
        )
    with open_dashboard(
        classes,
        host=host,
        port=port,
        allow_remote=allow_remote,
        rebuild=rebuild,
        on_copied=told,
        refresh=refresh or None,
        on_trouble=warn,
    ) as server:
        say(f"{server.url}  (Ctrl-C stops)")
        server.serve_forever()
