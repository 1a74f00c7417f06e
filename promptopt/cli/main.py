"""The command line. Only typer is imported here; every command imports what it needs when it runs."""

import os
import shlex
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from promptopt.cli import (
    augment,
    classify,
    compare_generators,
    dashboard,
    data,
    doctor,
    evaluate,
    export,
    generate,
    push,
    review,
    study,
    synthesize,
    tables,
    template,
    train,
    transfer,
)

_FLOORS = ("promptopt", "generators", "evaluation", "studies")


def _is_expected(error: Exception) -> bool:
    """Errors that the project raises on purpose, and those of files: their message says it all."""
    return isinstance(error, OSError) or any(_is_ours(base.__module__) for base in type(error).__mro__)


def _is_refusal(error: Exception) -> bool:
    """A plain ValueError that came from the project's own code: most likely a value that it refused."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return type(error) is ValueError and trace is not None and _is_ours(trace.tb_frame.f_globals["__name__"])


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in _FLOORS


class _Root(TyperGroup):
    """Turns expected errors into one message and exit code 2, and Ctrl-C into a hint and exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            again = shlex.join(["promptopt", *sys.argv[1:]])
            _complain(f"Interrupted. Finished work is kept; to go on, run again: {again}", title="")
            raise typer.Exit(130) from None
        except Exception as error:
            if ctx.params.get("debug") or not (_is_expected(error) or _is_refusal(error)):
                raise
            if isinstance(error, BrokenPipeError):
                # The reader of a pipe went away (`| head`): nothing to say, and nowhere to say it.
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                raise typer.Exit(1) from None
            hint = "" if _is_expected(error) else "\n(promptopt --debug ... shows where)"
            _complain(_message(error) + hint)
            raise typer.Exit(2) from None


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _complain(message: str, *, title: str = "Error: ") -> None:
    typer.echo(typer.style(title, fg="red", bold=True) + typer.style(message, fg="red"), err=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        from promptopt import __version__

        typer.echo(f"promptopt {__version__}")
        raise typer.Exit


main = typer.Typer(
    cls=_Root,
    help="Finds the prompts with which a text-to-image model makes images worth training a classifier on.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@main.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="PROMPTOPT_DEBUG", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    """Nothing to set up: the options act where errors are caught, and in their own callbacks."""


main.add_typer(study.app, name="study")
main.add_typer(data.app, name="data")
main.add_typer(train.app, name="train")
main.command("generate")(generate.generate)
main.command("push")(push.push)
main.command("synthesize")(synthesize.synthesize)
main.command("augment")(augment.augment)
main.command("compare-generators")(compare_generators.compare_generators)
main.command("transfer")(transfer.transfer)
main.command("classify")(classify.classify)
main.command("evaluate")(evaluate.evaluate)
main.add_typer(export.app, name="export")
main.add_typer(template.app, name="template")
main.add_typer(review.app, name="review")
main.command("tables")(tables.tables)
main.command("dashboard")(dashboard.dashboard)
main.command("doctor")(doctor.doctor)

if __name__ == "__main__":
    main()
