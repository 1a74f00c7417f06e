"""The command line. Only typer is imported here; every command imports what it needs when it runs."""

import errno
import logging
import os
import sys
import tempfile
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from promptopt.base import interrupts
from promptopt.base.errors import PromptoptError
from promptopt.base.machine import chain, full_disk, is_full_disk, is_out_of_memory
from promptopt.base.reading import printable
from promptopt.cli import (
    augment,
    classify,
    compare_generators,
    convert,
    dashboard,
    data,
    doctor,
    evaluate,
    export,
    generate,
    init,
    plan,
    publish,
    push,
    report,
    review,
    study,
    sweep,
    synthesize,
    tables,
    template,
    train,
    transfer,
)
from promptopt.cli._text import say
from promptopt.cli._values import check_text

_REPORT = (
    "This is a fault of promptopt, not of what you gave it. Please report it with the lines above, the "
    "command and the output of `promptopt doctor`. Finished work is kept."
)


class _Root(TyperGroup):
    """Turns errors into what a person sees.

    - PromptoptError: something they can put right; its message, exit code 2.
    - OSError: of the machine (a full disk, no permission); its message with a remedy, exit code 2.
    - BrokenPipeError: the reader of a pipe went away (`| head`); nothing, exit code 1.
    - KeyboardInterrupt, SIGTERM: how to go on, exit codes 130 and 143.
    - A full disk or too little memory, in any library's words: one sentence with the remedy, exit code 2.

    Whatever else comes up is a bug and keeps its traceback, with a note on how to report it; `--debug` shows
    the traceback of the first two also.
    """

    def invoke(self, ctx: Any) -> Any:
        if logging.lastResort is not None:  # which prints warnings, file names and all
            logging.lastResort.setFormatter(_Plain())
        try:
            with interrupts.raising():
                check_text(ctx.args)
                return super().invoke(ctx)
        except BaseException as error:
            for one in () if isinstance(error, typer.Exit) else chain(error):
                if isinstance(one, KeyboardInterrupt):  # perhaps wrapped by a library that was being loaded
                    interrupts.end_at_once()
                    code = interrupts.exit_code(one)
                    _complain(interrupts.farewell(code), title="")
                    raise typer.Exit(code) from None
            if isinstance(error, BrokenPipeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                raise typer.Exit(1) from None
            message = _message(error)
            if message is not None and not ctx.params.get("debug"):
                _complain(message)
                raise typer.Exit(2) from None
            if message is None and isinstance(
                error, Exception
            ):  # typer's own, which it shows itself, and bugs
                error.add_note(_REPORT)
            raise


def _message(error: BaseException) -> str | None:
    """One sentence for what a person can put right; None for a bug."""
    if is_full_disk(error):
        said = full_disk(error, _places())
        own = isinstance(error, PromptoptError) and "space" in str(error)
        return str(error) if own else said
    if isinstance(error, PromptoptError):
        return str(error)
    if any(is_out_of_memory(one) for one in chain(error)):
        return (
            "memory ran out. Close other programs, or take a smaller batch size, fewer workers or smaller "
            "images; then run the same command again: finished work is kept."
        )
    return _of_machine(error) if isinstance(error, OSError) else None


def _places() -> list[str]:
    """Where a command may write: its arguments, and the folders that it takes where none is given."""
    typed = [part for word in sys.argv[1:] for part in word.split("=", 1)]
    return [*(word for word in typed if not word.startswith("-")), "runs", "store", tempfile.gettempdir()]


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _of_machine(error: OSError) -> str:
    remedies = {
        errno.ENOSPC: "Free some space, then run the same command again.",
        errno.EDQUOT: "Free some space, then run the same command again.",
        errno.EACCES: "Give yourself permission, or choose another place.",
        errno.EROFS: "Choose another place.",
        errno.ENOENT: "Check the path.",
    }
    place = "" if error.filename is None else f": {error.filename}"
    said = f"{error.strerror}{place}" if error.strerror else str(error) or type(error).__name__
    return f"{said}. {remedies[error.errno]}" if error.errno in remedies else said


def _complain(message: str, *, title: str = "Error: ") -> None:
    say(message, err=True, title=title, fg="red", bold=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        from promptopt import __version__

        say(f"promptopt {__version__}")
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


main.command("init")(init.init)
main.add_typer(study.app, name="study")
main.command("plan")(plan.plan)
main.command("sweep")(sweep.sweep)
main.command("publish")(publish.publish)
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
main.command("convert")(convert.convert)
main.add_typer(export.app, name="export")
main.add_typer(template.app, name="template")
main.command("report")(report.report)
main.add_typer(review.app, name="review")
main.command("tables")(tables.tables)
main.command("dashboard")(dashboard.dashboard)
main.command("doctor")(doctor.doctor)

if __name__ == "__main__":
    main()
