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


# every command, in the order in which a new user may want them
_SECTIONS = {
    "Begin": ("doctor", "init", "data", "template"),
    "Study": ("study", "plan", "sweep", "report", "dashboard", "review", "publish"),
    "Use the prompts": ("augment", "synthesize", "generate", "transfer", "export", "tables", "push"),
    "Models and measurements": ("train", "convert", "evaluate", "classify", "compare-generators"),
}


class _Root(TyperGroup):
    """Lists the commands by what they are for, and turns errors into what a person sees.

    - PromptoptError: something they can put right; its message, exit code 2.
    - OSError: of the machine (a full disk, no permission); its message with a remedy, exit code 2.
    - BrokenPipeError: the reader of a pipe went away (`| head`); nothing, exit code 1.
    - KeyboardInterrupt, SIGTERM: how to go on, exit codes 130 and 143.
    - A full disk or too little memory, in any library's words: one sentence with the remedy, exit code 2.

    Whatever else comes up is a bug and keeps its traceback, with a note on how to report it; `--debug` shows
    the traceback of the first two also.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        widest = max(map(len, self.commands))
        for title, names in _SECTIONS.items():
            with formatter.section(title):
                shown = [(f"{name:<{widest}}", self.commands[name].get_short_help_str(99)) for name in names]
                formatter.write_dl(shown)

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
    help="Finds the prompts with which a text-to-image model makes images worth training a classifier on.\n\n"
    "Begin with `promptopt doctor`, then `promptopt init`.",
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


main.command("init", short_help="Write a first study file, and say what it will cost.")(init.init)
main.add_typer(study.app, name="study", short_help="Search for prompts; show and compare runs.")
main.command("plan", short_help="Say what a study costs: images, minutes, disk.")(plan.plan)
main.command("sweep", short_help="Run a study with all combinations of some settings.")(sweep.sweep)
main.command("publish", short_help="Copy runs into a team's Optuna database.")(publish.publish)
main.add_typer(data.app, name="data")
main.add_typer(train.app, name="train", short_help="Train generators, CLIP encoders and judges.")
main.command("generate", short_help="Generate images of one prompt, and a contact sheet.")(generate.generate)
main.command("push", short_help="Upload a model, a set of images or a run to the hub.")(push.push)
main.command("synthesize", short_help="Make images for every prompt of a list.")(synthesize.synthesize)
main.command("augment", short_help="Make an augmentation set, or prove that one helps.")(augment.augment)
main.command("compare-generators", short_help="Compare generators on one prepared data set.")(
    compare_generators.compare_generators
)
main.command("transfer", short_help="Try a run's prompts with other generators.")(transfer.transfer)
main.command("classify", short_help="Train classifiers on real and on synthetic images.")(classify.classify)
main.command("evaluate", short_help="Measure generated images against real ones.")(evaluate.evaluate)
main.command("convert", short_help="Convert pickled weights to safetensors, once.")(convert.convert)
main.add_typer(export.app, name="export", short_help="Hand over results: lists and challenge submissions.")
main.add_typer(template.app, name="template", short_help="Check, sample and mine prompt templates.")
main.command("report", short_help="Compare two runs on one page.")(report.report)
main.add_typer(review.app, name="review", short_help="Ask experts about images.")
main.command("tables", short_help="Write the tables and figures of a paper.")(tables.tables)
main.command("dashboard", short_help="Show a run in optuna-dashboard.")(dashboard.dashboard)
main.command("doctor", short_help="Examine machine, packages, weights and disk.")(doctor.doctor)

if __name__ == "__main__":
    main()
