"""The organizers' 2024 files made into a prepared data set (see ``studies.dataset``)."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptopt.base.files import file_digest, link_or_copy, new_folder
from studies.dataset import POOLS, DatasetError, Record, write_metadata
from studies.grammar import Grammar, counted
from studies.medvqa_gi.attributes import Attributes, CaptionError
from studies.medvqa_gi.captions import ParsedCaption, parse_caption
from studies.medvqa_gi.meaning import category_and_label
from studies.medvqa_gi.report import PrepareReport
from studies.medvqa_gi.source import (
    CAPTIONS,
    IMAGES,
    LISTING,
    Listed,
    check_spelling,
    find_images,
    read_captions,
    read_listing,
)
from studies.preparation.grouping import assign_pools
from studies.preparation.looking import Seen, groups_by_looks, joined, look, same_bytes
from studies.preparation.target import REPORT, check_target


def prepare_2024(
    source: str | Path,
    out: str | Path,
    *,
    center: str = "unknown",
    seed: int = 0,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
    grammar: Grammar | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> PrepareReport:
    """Make the prepared data set ``out`` from ``source/prompt-gt.csv`` and ``source/images``.

    ``source/images.jsonl``, if there is one, says which pictures belong together and which are for testing:
    those go to the pool "test", the others to "reference" and "validation". Without it, near-duplicates are
    found by a perceptual hash, and all three pools are shared out. ``shares`` are those of the pools in
    this order (without test, if that is given). Groups never cross pools, and each category is shared out
    alike.

    Pictures are not touched: they are linked or copied as they are. ``center`` holds where the list names
    none. With a ``grammar`` what captions say beyond the challenge's becomes attributes, and captions are
    written from them if it says how. ``on_progress`` is told (pictures checked, pictures in all). The same
    input gives the same output. ``out`` must be new, empty or the result of this very preparation, which is
    then replaced whole.

    Raises DatasetError naming the file, the line and the remedy, before anything is written.
    """
    source, out = Path(source), Path(out)
    _check_settings(center, seed, shares)
    table = read_captions(source / CAPTIONS)
    listing = read_listing(source / LISTING)
    files = find_images(source / IMAGES)
    check_spelling(table, files, source / CAPTIONS)
    preparation = {
        "kind": "medvqa-gi-2024",
        "source": source.resolve().name,
        "center": center,
        "seed": seed,
        "shares": list(shares),
        "inputs": {
            **{n: file_digest(source / n) for n in (CAPTIONS, LISTING) if (source / n).exists()},
            **({} if grammar is None else {"grammar": grammar.digest}),
        },
    }
    check_target(out, source, preparation)

    reading = _read_prompts(table.captions, grammar)
    named = [name for name in files if name in table.captions]
    seen = look(
        [(name, files[name]) for name in named],
        hashed=listing is None,
        measured=grammar is not None and bool(grammar.measure),
        on_progress=on_progress,
    )
    readable = [name for name in seen.good if reading.statements[name]]
    if not readable:
        raise DatasetError(
            f"{source}: no image is left of {len(files)} in {IMAGES}/ ({len(seen.broken)} broken, "
            f"{len(files) - len(named)} without a caption, {len(seen.good)} without a caption that can be "
            f"read); check that {CAPTIONS} names the files in {IMAGES}/"
        )
    meaning = {name: category_and_label(reading.statements[name]) for name in readable}
    duplicates = same_bytes(readable, seen.digests)
    if listing is None:
        groups = groups_by_looks(readable, seen, duplicates)
        sides = {}
    else:
        groups = _groups_by_list(readable, listing, duplicates, source / LISTING)
        sides = {groups[name]: listing[name].split for name in readable}
    pools = _pools(groups, sides, {name: category for name, (category, _) in meaning.items()}, shares, seed)
    attributes, texts = _described(readable, table.captions, meaning, seen, grammar)
    records = [
        Record(
            file_name=f"{IMAGES}/{name}",
            text=texts[name],
            category=meaning[name][0],
            label=meaning[name][1],
            center=((listing[name].center if listing else None) or center),
            group=groups[name],
            pool=pools[groups[name]],  # type: ignore[arg-type]
            attributes=attributes[name],
        )
        for name in readable
    ]
    report = _report(
        records,
        preparation=preparation,
        grouping="near-duplicates" if listing is None else LISTING,
        duplicates=duplicates,
        captions_without_image=tuple(sorted(set(table.captions) - set(files))),
        images_without_caption=tuple(name for name in files if name not in table.captions),
        images_without_readable_caption=tuple(n for n in seen.good if not reading.statements[n]),
        broken=seen.broken,
        caption_rows=table.rows,
        repeated_rows=table.repeated,
        unlisted_rows=len(set(listing or ()) - set(readable)),
        parsed=reading.parsed,
        unparsed=reading.unparsed,
    )
    with new_folder(out.resolve()) as folder:
        (folder / IMAGES).mkdir()
        for name in readable:
            link_or_copy(files[name], folder / IMAGES / name)
        write_metadata(folder, records)
        (folder / REPORT).write_text(json.dumps(report.to_json(), indent=2) + "\n", "utf-8")
    return report


def _check_settings(center: str, seed: int, shares: Sequence[float]) -> None:
    if not center.strip():
        raise DatasetError(f"center: got {center!r}; give a name, such as 'unknown'")
    if seed < 0:
        raise DatasetError(f"seed: got {seed!r}; give a whole number that is not negative")
    if (
        len(shares) != len(POOLS)
        or not all(math.isfinite(share) and 0 <= share <= 1 for share in shares)
        or not math.isclose(sum(shares), 1, abs_tol=1e-6)
        or shares[0] + shares[1] <= 0
    ):
        raise DatasetError(
            f"shares: got {tuple(shares)!r}; give three numbers that add up to 1, for {', '.join(POOLS)}"
        )


@dataclass
class _Prompts:
    statements: dict[str, list[Attributes]] = field(default_factory=lambda: defaultdict(list))
    parsed: dict[str, ParsedCaption] = field(default_factory=dict)
    unparsed: dict[str, str] = field(default_factory=dict)


def _read_prompts(captions: Mapping[str, tuple[str, ...]], grammar: Grammar | None) -> _Prompts:
    reading = _Prompts()
    known: set[str] = set()
    for name, prompts in captions.items():
        for prompt in prompts:
            if prompt not in known:
                known.add(prompt)
                try:
                    reading.parsed[prompt] = parse_caption(prompt)
                except CaptionError as error:
                    if grammar is None or not grammar.spoken(prompt):
                        reading.unparsed[prompt] = str(error)
            if prompt in reading.parsed:
                reading.statements[name].append(reading.parsed[prompt].attributes)
    return reading


def _described(
    names: Sequence[str],
    captions: Mapping[str, tuple[str, ...]],
    meaning: Mapping[str, tuple[str, str]],
    seen: Seen,
    grammar: Grammar | None,
) -> tuple[dict[str, dict[str, str]], dict[str, tuple[str, ...]]]:
    """Attributes and captions of each picture, by the grammar if there is one."""
    if grammar is None:
        return {name: {} for name in names}, {name: captions[name] for name in names}
    read = [grammar.read(captions[name]) for name in names]
    looks = [seen.looks.get(name, {}) for name in names]
    attributes = dict(zip(names, grammar.with_measured(read, looks), strict=True))
    if grammar.captions is None:
        return attributes, {name: captions[name] for name in names}
    texts = {}
    for name in names:
        category, label = meaning[name]
        written = grammar.write((label, category), attributes[name], key=name)
        own = captions[name] if grammar.captions.own or not written else ()
        texts[name] = tuple(dict.fromkeys((*own, *written)))
    return attributes, texts


def _groups_by_list(
    names: Sequence[str], listing: Mapping[str, Listed], same: Sequence[tuple[str, ...]], file: Path
) -> dict[str, str]:
    """The list's groups; those that hold the very same picture become one."""
    for name in names:
        if name not in listing:
            raise DatasetError(
                f"{file}: does not list {name!r}; add it, or delete the file to group by looks"
            )
    for copies in same:
        for other in copies[1:]:
            if listing[other].split != listing[copies[0]].split:
                raise DatasetError(
                    f"{file}, line {listing[other].line}: key 'split': {other!r} is "
                    f"{listing[other].split!r}, but its copy {copies[0]!r} in line "
                    f"{listing[copies[0]].line} is not; keep copies on one side"
                )
    by_group: dict[str, int] = {}
    pairs = [(by_group.setdefault(listing[name].group, i), i) for i, name in enumerate(names)]
    return {
        name: listing[names[first]].group
        for name, first in zip(names, joined(names, pairs, same), strict=True)
    }


def _pools(
    groups: Mapping[str, str],
    sides: Mapping[str, str],
    categories: Mapping[str, str],
    shares: tuple[float, float, float],
    seed: int,
) -> dict[str, str]:
    members: dict[str, list[str]] = defaultdict(list)
    for name, group in groups.items():
        members[group].append(categories[name])
    named = list(zip(POOLS, shares, strict=True))
    if not sides:
        return assign_pools(members, pools=named, seed=seed)
    train = {group: kinds for group, kinds in members.items() if sides[group] == "train"}
    pools = assign_pools(train, pools=[(pool, share) for pool, share in named if pool != "test"], seed=seed)
    return pools | {group: "test" for group in members if sides[group] == "test"}


def _report(
    records: Sequence[Record],
    *,
    parsed: Mapping[str, ParsedCaption],
    unparsed: Mapping[str, str],
    **rest: Any,
) -> PrepareReport:
    prompts = Counter(prompt for record in records for prompt in record.text)
    quirks: Counter[str] = Counter()
    for prompt, count in prompts.items():
        for quirk in parsed[prompt].quirks if prompt in parsed else ():
            quirks[quirk] += count
    by_category = _counted(record.category for record in records)
    by_pool = Counter(record.pool for record in records)
    cells = Counter((record.category, record.pool) for record in records)
    groups = Counter(record.group for record in records)
    return PrepareReport(
        images=len(records),
        attributes=counted(record.attributes for record in records),
        prompts=prompts.total(),
        distinct_prompts=len(prompts),
        by_category=by_category,
        by_label=_counted(record.label for record in records),
        by_center=_counted(record.center for record in records),
        # Pools without a picture are told too: an empty pool is what a reader must see.
        by_pool={pool: by_pool[pool] for pool in POOLS},  # type: ignore[index]
        by_category_pool={c: {p: cells[c, p] for p in POOLS} for c in by_category},  # type: ignore[index]
        groups=len(groups),
        shared_groups=sum(count > 1 for count in groups.values()),
        quirks=_counted(quirks.elements()),
        unparsed=dict(sorted(unparsed.items())),
        **rest,
    )


def _counted(values: Any) -> dict[str, int]:
    """Counts, the largest first, equal ones by name."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
