"""`promptopt publish`: runs in a team's database."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.cli._options import Store
from promptopt.cli._text import say, warn
from promptopt.cli._values import finite_value, run_value

if TYPE_CHECKING:
    from promptopt.publishing.publisher import PublishedRun


def publish(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", callback=run_value, help="Run folders, or names of folders in runs."),
    ],
    to: Annotated[str, typer.Option(metavar="URL", help="postgresql://HOST/DATABASE, or sqlite:///FILE.")],
    user: Annotated[
        str | None,
        typer.Option(
            envvar="PROMPTOPT_USER", help="Whose runs they are; default: the run's, else the account's name."
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until the runs are finished, or Ctrl-C.")
    ] = False,
    refresh: Annotated[
        float, typer.Option(min=1, callback=finite_value, help="With --watch: seconds between looks.")
    ] = 15.0,
    artifacts: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE", help="Folder or URL (s3://...) for each prompt's contact sheet; default: none."
        ),
    ] = None,
    store: Store = Path("store"),
) -> None:
    """Copy the Optuna studies of runs into one database, which one optuna-dashboard then shows.

    Run again, it adds what is new. Passwords are best kept out of the URL: in ~/.pgpass, PGPASSWORD or a
    service file.
    """
    from promptopt.publishing.notes import notes_installed
    from promptopt.publishing.publisher import Publisher
    from promptopt.publishing.target import Target
    from promptopt.publishing.watching import publish as publish_once
    from promptopt.publishing.watching import watch as watch_runs

    target = Target.parse(to)

    def told(run: "PublishedRun") -> None:
        for one in run.studies:
            say(f"{one.name}: {one.trials} trials, {one.added} added, {one.changed} changed")

    if not notes_installed():
        warn("studies get no notes without optuna-dashboard: pip install 'promptopt[dashboard]'")
    ended = f"All is in {target}."
    with Publisher(target, user=user, artifacts=artifacts, store=store) as publisher:
        if watch:
            ended = f"The runs are finished, and all is in {target}."
            try:
                watch_runs(publisher, runs, seconds=refresh, on_update=told, on_trouble=warn)
            except KeyboardInterrupt as error:
                from promptopt.base import interrupts

                if interrupts.exit_code(error) != 130:  # SIGTERM
                    raise
                ended = f"Stopped watching. What was published stays in {target}; the runs go on."
        else:
            publish_once(publisher, runs, on_update=told)
    say(ended)
    if not watch:
        say(f"Next: {_dashboard(target.for_optuna, artifacts)}")


def _dashboard(url: str, artifacts: str | None) -> str:
    """The command that shows the database; optuna-dashboard's own takes folders of artifacts alone."""
    if artifacts is None:
        return f"optuna-dashboard {shlex.quote(url)}"
    from promptopt.publishing.pictures import artifact_folder

    if (folder := artifact_folder(artifacts)) is not None:
        return shlex.join(["optuna-dashboard", url, "--artifact-dir", str(folder)])
    return f"optuna-dashboard {shlex.quote(url)}; with the pictures of {artifacts}: docs/team.md"
