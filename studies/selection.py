"""A part of a prepared data set as a data set of its own: a target hospital, or all that is not one."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from promptopt.base.files import link_or_copy, new_folder, write_json
from studies.dataset import POOLS, Dataset, DatasetError, Record, read_dataset, write_metadata
from studies.preparation.grouping import assign_pools

SELECTION = "selection.json"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which pictures are taken, and what is written anew of them.

    - ``where``: attribute -> values; a picture must have one of them (of a list of values: one in common);
      an attribute that is not known of a picture is none of them. ``CLASS:attribute`` asks it of pictures
      of that label or category alone: all others fit
    - ``any_of``: whether one attribute is enough; else all must fit
    - ``labels``, ``centers``, ``groups``, ``pools``: those taken; empty: any. A label may be a category
    - ``center``: what the hospital is called now; None: as before
    - ``rest``: with it the pictures that do not fit are kept as well, as those of another hospital of that
      name: one data set of two centers
    - ``shares``: of the pools, shared out anew by group, each category alike; None: as before
    - ``validation``: this part of what lies in validation or test goes to validation, the rest to test, by
      group; reference stays. None: as before
    - ``limits``: pool -> pictures of each category at most; groups are taken in an order drawn by ``seed``
    """

    where: Mapping[str, Collection[str]] = field(default_factory=dict)
    any_of: bool = False
    labels: tuple[str, ...] = ()
    centers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    center: str | None = None
    rest: str | None = None
    shares: tuple[float, float, float] | None = None
    validation: float | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0

    def fits(self, record: Record) -> bool:
        """Whether a picture is taken, before any limit."""
        plain = (
            (self.labels, {record.label, record.category}),
            (self.centers, {record.center}),
            (self.groups, {record.group}),
            (self.pools, {record.pool}),
        )
        if any(wanted and not own & set(wanted) for wanted, own in plain):
            return False
        asked = [(_of(key), values) for key, values in self.where.items()]
        hits = [
            bool(_values(record, name) & set(values))
            for (of, name), values in asked
            if of in ("", record.label, record.category)
        ]
        return not hits or (any(hits) if self.any_of else all(hits))


def select(
    dataset: Dataset, out: str | Path, selection: Selection, *, without: Sequence[Dataset] = ()
) -> Dataset:
    """Write the chosen pictures as a prepared data set, linked or copied; groups never cross pools.

    Args:
        without: data sets whose groups in the pools "validation" and "test" are left out whole: what is left
            may train a generator that these sets then test.

    Raises:
        DatasetError: nothing is left, an attribute, label, center or pool that does not exist, or an ``out``
            that holds something else.
    """
    _check(dataset, selection)
    held_out = {r.group for other in without for r in other if r.pool in ("validation", "test")}
    fitting = {r.file_name for r in dataset if selection.fits(r)}
    chosen = [
        r
        for r in dataset
        if (selection.rest is not None or r.file_name in fitting) and r.group not in held_out
    ]
    if selection.shares is not None:
        chosen = _shared_out(chosen, selection.shares, selection.seed)
    if (part := selection.validation) is not None:
        seen = [r for r in chosen if r.pool == "reference"]
        held = _shared_out([r for r in chosen if r.pool != "reference"], (0, part, 1 - part), selection.seed)
        moved = {r.file_name: r for r in (*seen, *held)}
        chosen = [moved[r.file_name] for r in chosen]
    chosen = _limited(chosen, selection)
    if not fitting & {r.file_name for r in chosen}:
        raise DatasetError(f"{dataset.root}: no image fits {_shown(selection)}; ask for less at once")
    chosen = [
        replace(r, center=(selection.center if r.file_name in fitting else selection.rest) or r.center)
        for r in chosen
    ]
    out = Path(out)
    said = {
        "kind": "selection",
        "from": dataset.fingerprint,
        "without": sorted(other.fingerprint for other in without),
        **asdict(selection),
        "where": {name: sorted(values) for name, values in sorted(selection.where.items())},
    }
    said = json.loads(json.dumps(said))
    _check_target(out, dataset.root, said)
    with new_folder(out.resolve()) as folder:
        for record in chosen:
            target = folder / record.file_name
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(dataset.path(record).resolve(), target)
        write_metadata(folder, chosen)
        write_json(folder / SELECTION, said)
    return read_dataset(out)


def _of(key: str) -> tuple[str, str]:
    """The class that a condition is for, "" for all, and its attribute."""
    of, _, name = key.rpartition(":")
    return of, name


def _values(record: Record, name: str) -> set[str]:
    value = record.attributes.get(name)
    values = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return {str(one) for one in values}


def _check(dataset: Dataset, selection: Selection) -> None:
    known: dict[str, set[str]] = defaultdict(set)
    for record in dataset:
        for name in record.attributes:
            known[name] |= _values(record, name)
    classes = {r.label for r in dataset} | {r.category for r in dataset}
    for key, values in selection.where.items():
        of, name = _of(key)
        if of and of not in classes:
            there = ", ".join(sorted(classes)[:20])
            raise DatasetError(f"{dataset.root}: {key}: no image has the label {of!r}; there are {there}")
        if name not in known:
            there = ", ".join(sorted(known)) or "none: prepare the data with --grammar"
            raise DatasetError(f"{dataset.root}: no image has the attribute {name!r}; there are {there}")
        if unknown := sorted(set(values) - known[name]):
            there = ", ".join(sorted(known[name])[:20])
            raise DatasetError(f"{dataset.root}: no image has {name} {unknown[0]!r}; values there: {there}")
    for key, wanted, values_there in (
        ("label", selection.labels, classes),
        ("center", selection.centers, {r.center for r in dataset}),
        ("group", selection.groups, {r.group for r in dataset}),
        ("pool", (*selection.pools, *selection.limits), set(POOLS)),
    ):
        if unknown := sorted(set(wanted) - values_there):
            raise DatasetError(
                f"{dataset.root}: no image has the {key} {unknown[0]!r}; there are "
                f"{', '.join(sorted(values_there)[:20])}"
            )
    shares = selection.shares
    if shares is not None and (
        not all(math.isfinite(s) and 0 <= s <= 1 for s in shares)
        or not math.isclose(sum(shares), 1, abs_tol=1e-6)
    ):
        pools = ", ".join(POOLS)
        raise DatasetError(f"shares: got {shares}; give three numbers that add up to 1, for {pools}")
    if selection.validation is not None and not 0 <= selection.validation <= 1:
        raise DatasetError(f"validation: got {selection.validation}; give a part from 0 to 1")
    if selection.validation is not None and shares is not None:
        raise DatasetError("shares and validation: both say which pool an image goes to; leave one out")
    for pool, limit in selection.limits.items():
        if limit < 1:
            raise DatasetError(f"limits: {limit} images in {pool}; give 1 or more, or select fewer pools")


def _shared_out(records: Sequence[Record], shares: tuple[float, ...], seed: int) -> list[Record]:
    members: dict[str, list[str]] = defaultdict(list)
    for record in records:
        members[record.group].append(record.category)
    pools = assign_pools(members, pools=list(zip(POOLS, shares, strict=True)), seed=seed)
    return [replace(record, pool=pools[record.group]) for record in records]  # type: ignore[arg-type]


def _limited(records: Sequence[Record], selection: Selection) -> list[Record]:
    """Pools with a limit keep so many pictures of each category, whole groups where they fit."""
    order = sorted({record.group for record in records})
    rank = {order[i]: n for n, i in enumerate(np.random.default_rng(selection.seed).permutation(len(order)))}
    taken: dict[tuple[str, str], int] = defaultdict(int)
    kept = set()
    for record in sorted(records, key=lambda r: (rank[r.group], r.file_name)):
        limit = selection.limits.get(record.pool)
        if limit is None or taken[record.pool, record.category] < limit:
            taken[record.pool, record.category] += 1
            kept.add(record.file_name)
    return [record for record in records if record.file_name in kept]


def _shown(selection: Selection) -> str:
    parts = [f"{name}={','.join(sorted(values))}" for name, values in selection.where.items()]
    for key in ("labels", "centers", "groups", "pools"):
        if getattr(selection, key):
            parts.append(f"{key} {','.join(getattr(selection, key))}")
    return " and ".join(parts) or "the data sets left out"


def _check_target(out: Path, source: Path, said: Mapping[str, Any]) -> None:
    here, there = out.resolve(), source.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise DatasetError(f"{out}: and {source} lie one inside the other; choose a folder apart from it")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        before = json.loads((out / SELECTION).read_text("utf-8"))
    except (OSError, ValueError):
        before = None
    if before != said:
        raise DatasetError(
            f"{out}: is not empty and not the result of this selection; choose another folder, or delete it"
        )
