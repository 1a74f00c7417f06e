"""What the numbers are about: the generators' images side by side, and those nearest to training images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from promptopt.comparison.run import GeneratorComparison

_PROMPTS = 8
_PAIRS = 8


def write_samples(
    comparison: GeneratorComparison, path: Path, *, prompts: int = _PROMPTS, each: int = 2
) -> Path:
    """A column for each of some prompts; above the real image of the caption, below it every generator's.

    Where there are categories, the prompts are taken from all of them in turn. They stand below the last row.
    """
    from promptopt.base.images import read_image
    from promptopt.formatting.pictures import Tile, contact_sheet

    per_prompt = len(comparison.made[0].images) // len(comparison.prompts)
    places = _spread(comparison, prompts)
    rows: list[tuple[str, list[Path]]] = []
    lenders = [comparison.prompts[place][1] for place in places]
    if None not in lenders:
        rows.append(("real images", [comparison.real.paths[i] for i in lenders if i is not None]))
    for made in comparison.made:
        for number in range(min(each, per_prompt)):
            title = f"{made.name}, image {number + 1}" if per_prompt > 1 else made.name
            rows.append((title, [made.images.paths[place * per_prompt + number] for place in places]))
    labels = [comparison.prompts[place][0].text for place in places]
    blocks = [
        (
            title,
            [
                Tile(read_image(file), label if last else "")
                for file, label in zip(files, labels, strict=True)
            ],
        )
        for last, (title, files) in ((row is rows[-1], row) for row in rows)
    ]
    return contact_sheet(blocks, path, columns=len(places), label_lines=5)


def write_pairs(comparison: GeneratorComparison, folder: Path) -> list[Path]:
    """For each generator the images that are nearest to a training image, beside it."""
    from promptopt.formatting.copies import pairs_sheet
    from promptopt.formatting.pictures import save_png

    written = []
    for made in comparison.made:
        if made.copies is None or not made.copies.closest:
            continue
        sheet = pairs_sheet(made.copies.closest[:_PAIRS], list(made.images.paths), list(comparison.training))
        written.append(save_png(sheet, folder / f"pairs-{made.name}.png"))
    return written


def _spread(comparison: GeneratorComparison, count: int) -> list[int]:
    """Places of prompts, different texts first, one category after the other."""
    columns = comparison.made[0].images.columns.get("category")
    per_prompt = len(comparison.made[0].images) // len(comparison.prompts)
    queues: dict[str, list[int]] = {}
    for place in range(len(comparison.prompts)):
        queues.setdefault(columns[place * per_prompt] if columns else "", []).append(place)
    for queue in queues.values():
        seen: dict[str, int] = {}
        ranks = {}
        for place in queue:  # the first of every text before the second of any
            text = comparison.prompts[place][0].text
            ranks[place] = seen[text] = seen.get(text, -1) + 1
        queue.sort(key=lambda place: (ranks[place], place))
    return _in_turn([queues[name] for name in sorted(queues)], count)


def _in_turn(queues: Sequence[list[int]], count: int) -> list[int]:
    taken: list[int] = []
    for rank in range(max(map(len, queues))):
        taken += [queue[rank] for queue in queues if rank < len(queue)]
    return taken[:count]
