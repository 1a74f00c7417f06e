"""`promptopt review`: experts' opinions on a run's images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.cli import group
from promptopt.cli._options import AllowRemote, Host, Port, Store
from promptopt.cli._text import say, terminal, warn
from promptopt.cli._values import run_value
from promptopt.formatting.numbers import format_estimate, p_value

if TYPE_CHECKING:
    from promptopt.review.preferences import Preferences
    from promptopt.review.sheet_scores import SheetScores

app = group("Ask experts: which prompt's images are better, and can they be told from real ones?")

_Run = Annotated[
    Path, typer.Argument(metavar="RUN", callback=run_value, help="A run folder, or the name of one in runs.")
]


@app.command(short_help="Let an expert pick the better of two sets of images.")
def prefer(
    run: _Run,
    rater: Annotated[str, typer.Option(help="Who chooses; a different name for each rater.")],
    port: Port = 8081,
    host: Host = "127.0.0.1",
    allow_remote: AllowRemote = False,
    store: Store = Path("store"),
    prompts: Annotated[
        int, typer.Option(min=2, max=50, help="How many prompts at most, the baseline among them.")
    ] = 6,
    images: Annotated[int, typer.Option(min=1, max=36, help="Images in each set.")] = 9,
    rounds: Annotated[int, typer.Option(min=1, help="How often every pair is shown.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of order, sides and images.")] = 0,
    question: Annotated[str | None, typer.Option(help="What better means; shown under the heading.")] = None,
) -> None:
    """Let an expert pick the better of two blinded image sets, in the browser.

    Prompts are not shown; pairs, sides and images come in an order drawn from the seed and the rater's name.
    Every answer is saved at once to RUN/review/choices.jsonl; the same command goes on where it stopped.
    """
    from promptopt.review.candidates import candidates
    from promptopt.review.page import PreferencePage
    from promptopt.review.session import Session
    from promptopt.run.images import RunImages
    from promptopt.web.server import LocalServer, is_loopback

    found = RunImages.open(run, store=store)
    shown, stage = candidates(found, most=prompts)
    session = Session(
        found,
        rater=rater,
        prompts=[prompt.candidate for prompt in shown],
        stage=stage,
        seed=seed,
        rounds=rounds,
        per_set=images,
    )
    if allow_remote and not is_loopback(host):
        warn(
            f"{host}: whoever reaches this machine can see the images and answer in {rater}'s name; "
            "there is no password and no encryption."
        )
    title = str(found.settings["category"]["title"])
    like = "an image that the phantom's program drew" if found.drawn else "a real patient's"
    page = PreferencePage(
        session,
        question=question or f"{title}. Better: the finding is clearer, and looks more like {like}.",
    )
    with LocalServer(page, host=host, port=port, allow_remote=allow_remote) as server:
        done, total = session.progress()
        say(f"{len(shown)} prompts, {done} of {total} comparisons of {session.rater} done")
        say(f"{server.url}  (Ctrl-C stops; every answer is saved at once)")
        server.serve_forever()
    if session.choices:
        values(run, store)


@app.command(short_help="Compute each prompt's value from the experts' choices.")
def values(run: _Run, store: Store = Path("store")) -> None:
    """Compute each prompt's value from the experts' choices, and how far the experts agree.

    Writes RUN/review/preferences.json, which a study can take as a term of its score, and preferences.csv.
    """
    from promptopt.review.preferences import write_preferences
    from promptopt.run.images import RunImages

    _print_preferences(write_preferences(RunImages.open(run, store=store)))
    say(f"wrote {run / 'review' / 'preferences.json'} and preferences.csv")


@app.command(short_help="Make a blinded sheet of real and synthetic images.")
def sheet(
    run: _Run,
    real: Annotated[Path, typer.Option(metavar="DATA", help="A prepared data set, or a folder of images.")],
    out: Annotated[
        Path, typer.Option("--out", "--output-dir", help="Folder for the raters; the key does not go there.")
    ],
    key: Annotated[
        Path | None,
        typer.Option(help="File that says which are synthetic; default: beside OUT, with its name."),
    ] = None,
    each: Annotated[int, typer.Option(min=1, max=500, help="Images of either kind.")] = 20,
    pool: Annotated[
        str, typer.Option(help="Pool of the real images, where DATA is a prepared set.")
    ] = "test",
    size: Annotated[
        int | None, typer.Option(min=16, max=1024, help="Side in pixels; default: the smallest there is.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw and the order.")] = 0,
    store: Store = Path("store"),
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier sheet and its key.")] = False,
) -> None:
    """Make a blinded sheet of real and synthetic images for a committee: a page, answers.csv, a separate key.

    Copies on the sheet have one size, one encoding and one date, and no metadata. Give OUT to the raters and
    keep the key.
    """
    from promptopt.review.sheet import write_sheet
    from promptopt.run.images import RunImages

    made = write_sheet(
        RunImages.open(run, store=store),
        real,
        out,
        key=key,
        each=each,
        pool=pool,
        size=size,
        seed=seed,
        force=force,
    )
    say(f"{2 * each} images, {made.size} x {made.size} pixels, sheet {made.sheet}")
    say(f"for the raters: {made.page} and {made.answers}")
    say(f"keep separate:  {made.key}", fg="yellow")
    for note in made.notes:
        warn(note)


@app.command(short_help="Compare filled-in answers with the key.")
def score(
    answers: Annotated[
        list[Path], typer.Argument(metavar="ANSWERS.csv", help="Filled-in answers, of one rater or more.")
    ],
    key: Annotated[Path, typer.Argument(metavar="KEY.json", help="The sheet's key.")],
    out: Annotated[
        Path | None, typer.Option("--out", "--output-dir", help="Write everything to this JSON file too.")
    ] = None,
) -> None:
    """Compare filled-in answers with the key: accuracy against 50 %, sensitivity, specificity, kappa."""
    from promptopt.review.sheet_scores import score_answers

    found = score_answers(answers, key)
    _print_scores(found)
    if out is not None:
        from promptopt.base.files import write_json

        write_json(out, found.to_dict(), ensure_ascii=False, allow_nan=False)
        say(f"wrote {out}")


def _print_preferences(found: "Preferences") -> None:
    from rich.table import Table
    from rich.text import Text
    from scipy.special import expit

    raters = sorted({choice.rater for choice in found.choices})
    console = terminal(highlight=False)
    table = Table(
        title=f"{found.study}: {len(found.choices)} choices by {', '.join(raters)}",
        title_justify="left",
        caption="Value: log-odds of being chosen over the baseline, with its interval.",
        caption_justify="left",
    )
    table.add_column("prompt", overflow="fold", min_width=20)
    for name in ("value", "chosen over baseline", "won/lost/same", "study score"):
        table.add_column(name, justify="right")
    for row in found.prompts:
        value = row.value.value
        table.add_row(
            Text(row.label + (" (baseline)" if row.label == found.reference else "")),
            format_estimate(row.value, "+.2f"),
            "-" if value is None or row.label == found.reference else f"{expit(value):.0%}",
            f"{row.won}/{row.lost}/{row.same}",
            "-" if row.score is None else f"{row.score:+.2f}",
        )
    console.print(table)
    console.print(f"rank correlation with the study's score: {format_estimate(found.with_score)}")
    console.print(f"left side chosen: {format_estimate(found.left)}")
    unusable = sum(choice.choice == "unusable" for choice in found.choices)
    if unusable:
        console.print(f"both unusable: {unusable} of {len(found.choices)} comparisons")
    for (first, second), kappa in found.agreement.items():
        console.print(f"agreement of {first} and {second} (kappa): {format_estimate(kappa)}", markup=False)


def _print_scores(found: "SheetScores") -> None:
    from rich.table import Table
    from rich.text import Text

    console = terminal(highlight=False)
    table = Table(title=f"sheet {found.sheet}: {found.verdict}", title_justify="left")
    table.add_column("rater")
    for name in ("right answers", "p against 50 %", "synthetic found", "real accepted"):
        table.add_column(name, justify="right")
    for row in found.raters:
        table.add_row(
            Text(row.rater),
            format_estimate(row.accuracy, ".0f", scale=100, unit=" %"),
            p_value(row.p_value),
            format_estimate(row.sensitivity, ".0f", scale=100, unit=" %"),
            format_estimate(row.specificity, ".0f", scale=100, unit=" %"),
        )
    if len(found.raters) > 1:
        table.add_row(
            Text("together", style="bold"),
            format_estimate(found.together.accuracy, ".0f", scale=100, unit=" %"),
            "",
            format_estimate(found.together.sensitivity, ".0f", scale=100, unit=" %"),
            format_estimate(found.together.specificity, ".0f", scale=100, unit=" %"),
        )
    console.print(table)
    for (first, second), kappa in found.kappas.items():
        console.print(f"Cohen's kappa of {first} and {second}: {format_estimate(kappa)}", markup=False)
    if found.fleiss is not None:
        console.print(f"Fleiss' kappa of all raters: {format_estimate(found.fleiss)}")
