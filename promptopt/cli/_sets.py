"""What `promptopt study show` prints of a study of sets."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.cli._text import terminal
from promptopt.formatting.numbers import count, in_cell, p_value
from promptopt.run.set_names import LESS
from promptopt.study.sets.words import nearer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from promptopt.run.prompt_sets import ClassEntry, ComparisonEntry, SetList
    from promptopt.study.run import StudyRows


def print_progress(found: StudyRows) -> None:
    """How far each class's search is."""
    console = _console()
    _say(console, f"{found.folder}: not finished.")
    for one in found.classes:
        images = f"{one.images:,} of {found.budget:,} images" if found.budget else count(one.images, "image")
        _say(console, f"  {one.label}: {images}, {count(one.prompts, 'prompt')}, {count(one.steps, 'step')}")
    if found.budget and all(one.images >= found.budget for one in found.classes):
        _say(console, "The search has used its images; the confirmation on fresh seeds comes next.")


def print_sets(found: SetList, folder: Path) -> None:
    """The sentence, a table a class, the comparisons, the certificates and what to do next."""
    console = _console()
    console.print(found.sentence, style="bold", markup=False)
    for entry in found.classes:
        console.print()
        console.print(_prompts(entry))
        console.print(_notes(entry), style="dim", markup=False)
    compared = [("all", one) for one in found.comparisons]
    compared += [(entry.label, one) for entry in found.classes for one in entry.comparisons]
    console.print()
    console.print(_comparisons(compared))
    console.print(
        "Adds: how much the distance would grow without the prompt. Nearer: MMD^2 x 1000 to unseen real "
        "images, + where the first is nearer; accuracy: balanced accuracy in points; * unreliable. "
        "95 % intervals; p corrected over the rows of a measure (Holm).",
        style="dim",
        markup=False,
    )
    _next(console, found, folder)


def _console() -> Console:

    return terminal(highlight=False)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def plain_table(title: str) -> Table:
    """Without lines but below the head."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _prompts(entry: ClassEntry) -> Table:
    from rich.text import Text

    table = plain_table(f"{entry.label}: {count(len(entry.set.prompts), 'prompt')}")
    table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("adds", justify="right", no_wrap=True)
    table.add_column("prompt", overflow="fold")
    for one in entry.set.prompts:
        table.add_row(f"{one.weight:.2f}", f"{LESS * one.adds:.1f}", Text(one.candidate.label))
    return table


def _notes(entry: ClassEntry) -> str:
    notes = [
        f"{entry.prompts_measured:,} of {entry.prompts_in_space:,} prompts measured with "
        f"{count(entry.images_in_search, 'image')}."
    ]
    if entry.stopped:
        notes.append(f"The search ended: {entry.stopped}.")
    if entry.distances is not None:
        notes.append(entry.distances.sentence)
    if entry.certificate is not None:
        notes.append(entry.certificate.sentence)
    return " ".join(notes)


def _comparisons(compared: Sequence[tuple[str, ComparisonEntry]]) -> Table:
    from rich.text import Text

    table = plain_table("Confirmed on fresh seeds and unseen real images")
    table.add_column("class", overflow="fold")
    table.add_column("measure")
    table.add_column("compared", overflow="fold")
    table.add_column("difference (95 %)", justify="right", min_width=10)
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    measures = {"closeness": "nearer", "second_encoder": "nearer, 2nd encoder", "accuracy": "accuracy"}
    for label, one in compared:
        cell = (
            in_cell(one.difference, "+.1f", scale=100)
            if one.metric == "accuracy"
            else in_cell(nearer(one), "+.0f", scale=LESS)
        )
        table.add_row(
            Text(label),
            measures[one.metric],
            f"{one.first} vs {one.second}",
            cell,
            p_value(one.p_adjusted),
            one.verdict,
        )
    return table


def _next(console: Console, found: SetList, folder: Path) -> None:
    from promptopt.run.folder import REPORT

    lines = [f"open {folder / REPORT} in a browser"] if (folder / REPORT).is_file() else []
    work = Path("work") / found.study
    label = found.classes[0].label
    given = str(folder)
    words = ["promptopt", "synthesize", "--prompts", given, "--class", label, "--method", "set"]
    words += ["--generator", found.generator.uri, "--out", f"{work}-images", "--total", "100"]
    lines += [
        shlex.join(["promptopt", "augment", given, "--out", str(work), "--per-class", "100"]),
        shlex.join(words),
    ]
    console.print()
    _say(console, "Next:")
    for line in lines:
        _say(console, f"  {line}")
