"""`promptopt template`: look at what a template spans, before any image is made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.commands import group

if TYPE_CHECKING:
    from promptopt.template import PromptSpace

app = group("Count and sample the prompts of a template.")

Text = Annotated[
    str,
    typer.Argument(
        help="A template, a text file with one, a category file (.yaml), or a category that ships."
    ),
]


@app.command()
def count(text: Text) -> None:
    """Print the number of combinations and the slots."""
    space = _space(text)
    for slot in space.slots:
        shown = " | ".join(option.strip() or "(nothing)" for option in slot.options[:12])
        more = f" | ... {len(slot.options) - 12} more" if len(slot.options) > 12 else ""
        typer.echo(f"{slot.name} ({len(slot.options)}): {shown}{more}")
    typer.echo(f"{space.size:,} combinations")


@app.command()
def sample(
    text: Text,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many prompts.")] = 10,
    seed: Annotated[int, typer.Option(help="Same seed, same prompts.")] = 0,
) -> None:
    """Print random prompts, by the template's weights."""
    import numpy as np

    space = _space(text)
    rng = np.random.default_rng(seed)
    for _ in range(number):
        typer.echo(space.render(space.sample(rng)))


def _space(text: str) -> "PromptSpace":
    from promptopt.template import compile_template
    from studies.category import CATEGORIES, load_category

    wildcards: Mapping[str, Sequence[str]] = {}
    if text in CATEGORIES or text.endswith((".yaml", ".yml")):
        category = load_category(text)
        text, wildcards = category.template, category.wildcards
    elif text.endswith(".txt"):
        text = Path(text).read_text(encoding="utf-8")
    return compile_template(text, wildcards)
