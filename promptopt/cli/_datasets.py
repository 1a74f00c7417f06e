"""What several commands show of a data set: a table, a contact sheet."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.cli._text import say, terminal

if TYPE_CHECKING:
    from studies.dataset import Dataset


def print_dataset(dataset: "Dataset") -> None:
    """A table of pools and classes, centers and labels."""
    from collections import Counter

    from rich.table import Table
    from rich.text import Text

    from promptopt.base.reading import one_line
    from studies.dataset import POOLS, metadata_file

    counts: Counter[tuple[str, str]] = Counter((record.category, record.pool) for record in dataset)
    groups = {category: {r.group for r in dataset if r.category == category} for category, _ in counts}
    say(f"{len(dataset)} images in {metadata_file(dataset.root)}")
    table = Table(title=Text(str(dataset.root)), title_justify="left")
    table.add_column("category")
    for pool in (*POOLS, "all", "groups"):
        table.add_column(pool, justify="right")
    for category in sorted(groups):
        numbers = [counts[category, pool] for pool in POOLS]
        table.add_row(Text(one_line(category)), *map(str, [*numbers, sum(numbers), len(groups[category])]))
    totals = [sum(counts[category, pool] for category in groups) for pool in POOLS]
    table.add_section()
    table.add_row("all", *map(str, [*totals, sum(totals), len({r.group for r in dataset})]))
    centers = Counter(record.center for record in dataset)
    labels = Counter(record.label for record in dataset)
    console = terminal()
    console.print(table)
    if not dataset.pooled:
        say(
            f"{metadata_file(dataset.root)} names no pools: training takes all images, "
            "a study shares them out."
        )
    for name, counter in (("centers", centers), ("labels", labels)):
        shown = ", ".join(f"{one_line(value)} {count}" for value, count in counter.most_common(30))
        more = f" and {len(counter) - 30} more" if len(counter) > 30 else ""
        console.print(f"{name}: {shown}{more}", markup=False, highlight=False)


def say_next(folder: Path) -> None:
    """What a prepared data set is for."""
    say(f"Next: promptopt init --data {shlex.quote(str(folder))}")


def write_sheet(
    folder: Path, out: Path, *, per_category: int, tile: int = 128, pool: str | None = None, seed: int = 0
) -> None:
    """Random pictures of each category, with their labels, as one PNG."""
    import numpy as np

    from promptopt.base.images import read_image
    from promptopt.formatting.pictures import Tile, contact_sheet
    from studies.dataset import DatasetError, read_dataset

    dataset = read_dataset(folder)
    if pool is not None:
        dataset = dataset.where(pool=pool)
    if not len(dataset):
        raise DatasetError(f"{folder}: no image{f' in pool {pool}' if pool else ''} to show")
    rng = np.random.default_rng(seed)
    rows = []
    for category in sorted({record.category for record in dataset}):
        records = dataset.where(category=category).records
        drawn = rng.choice(len(records), size=min(per_category, len(records)), replace=False)
        tiles = []
        for index in drawn:
            record = records[int(index)]
            tiles.append(Tile(read_image(dataset.path(record)), f"{record.label} · {record.pool}"))
        rows.append((f"{category}: {len(tiles)} of {len(records)}", tiles))
    contact_sheet(rows, out, tile=tile)
