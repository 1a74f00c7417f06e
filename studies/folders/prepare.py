"""Pictures of any source made into a prepared data set (see ``studies.dataset``)."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from promptopt.base.files import link_or_copy, new_folder
from studies.dataset import CLAIM_FROM, FEWEST, POOLS, DatasetError, Record, write_metadata
from studies.folders.found import Found
from studies.folders.language import foreign_caption
from studies.preparation.grouping import assign_pools
from studies.preparation.looking import Seen, groups_by_looks, look, same_bytes
from studies.preparation.target import IMAGES, REPORT, check_target

PROMPT = "an image of {label}"
"""Caption of a picture that has none of its own."""
SHARES = (0.6, 0.2, 0.2)


@dataclass(frozen=True, kw_only=True)
class FolderReport:
    """What a preparation read, left out and wrote. Pictures are named by their paths in the source.

    Attributes:
        preparation: how it was made.
        images, captioned: pictures written, and those with captions of their own.
        by_class_pool: class -> pool -> pictures; by_center: center -> pictures.
        groups, shared_groups: in all, and those of several pictures; duplicates: sets of equal files.
        broken: picture -> what is wrong with it; contradictions: equal files of two classes. Both left out.
    """

    preparation: Mapping[str, Any]
    images: int
    captioned: int
    by_class_pool: Mapping[str, Mapping[str, int]]
    by_center: Mapping[str, int]
    groups: int
    shared_groups: int
    duplicates: tuple[tuple[str, ...], ...]
    broken: Mapping[str, str]
    contradictions: tuple[tuple[str, ...], ...]

    def rows(self) -> list[tuple[str, str]]:
        """The report as (what, how many), in reading order; the classes have a table of their own."""
        return [
            ("images", str(self.images)),
            ("of them with captions of their own", str(self.captioned)),
            *((f"center: {name}", str(count)) for name, count in self.by_center.items()),
            ("groups", str(self.groups)),
            ("groups of more than one image", str(self.shared_groups)),
            ("sets of identical files", str(len(self.duplicates))),
            ("left out: broken images", str(len(self.broken))),
            ("left out: identical files of two classes", str(sum(map(len, self.contradictions)))),
        ]

    def warnings(self) -> list[str]:
        """What the numbers do not allow, a sentence each, with what to do."""
        few = {
            label: pools["test"] for label, pools in self.by_class_pool.items() if pools["test"] < CLAIM_FROM
        }
        said = []
        if few:
            shown = ", ".join(f"{label} {count}" for label, count in few.items())
            said.append(
                f"The pool test has fewer than {CLAIM_FROM} images of a class ({shown}): a study runs, but "
                "calls nothing better or worse. Add images."
            )
        if not self.preparation["groups_given"]:
            said.append(
                "Only near-duplicates share a group. If several images show one patient, say so by "
                "--group-regex, or what is confirmed was seen before."
            )
        return said


def prepare_found(
    pictures: Sequence[Found],
    out: str | Path,
    *,
    source: Path | None,
    name: str,
    prompts: Sequence[str] = (PROMPT,),
    center: str = "unknown",
    seed: int = 0,
    any_language: bool = False,
    settings: Mapping[str, Any] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """Make the prepared data set ``out`` of pictures.

    Near-duplicates are found by a perceptual hash and share a group, as do pictures whose ``group`` is the
    same. Of each class three fifths go to the pool "reference", a fifth each to "validation" and "test",
    group by group; of a small class every pool gets at least four. A picture without captions gets
    ``prompts``, in which ``{label}`` is the class. Broken pictures, and equal ones of two classes, are left
    out and listed in ``prepare-report.json``. Pictures are linked or copied as they are. The same input gives
    the same output.

    ``source`` is the folder that is read, ``name`` what the report calls it, ``settings`` how it was read,
    as plain JSON.

    Raises DatasetError, before anything is written: one class, too few pictures or groups of one, captions
    that are not English without ``any_language``, or a folder ``out`` that holds something else.
    """
    out = Path(out)
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise DatasetError(f"--prompt: got {list(prompts)!r}; give a caption such as {PROMPT!r}")
    if not center.strip():
        raise DatasetError(f"--center: got {center!r}; give a name, such as 'unknown'")
    preparation = {
        "kind": "folders",
        "source": name,
        "center": center,
        "seed": seed,
        "prompts": list(prompts),
        **(settings or {}),
    }
    check_target(out, source, preparation)
    _check_classes(Counter(one.label for one in pictures), name)
    captions = {one.name: one.captions or _of_class(prompts, one.label) for one in pictures}
    if not any_language:
        _check_language([text for texts in captions.values() for text in texts])
    seen = look([(one.name, one.path) for one in pictures], hashed=True, on_progress=on_progress)
    by_name = {one.name: one for one in pictures}
    same = same_bytes(seen.good, seen.digests)
    contradictions = tuple(names for names in same if len({by_name[n].label for n in names}) > 1)
    left_out = {n for names in contradictions for n in names}
    kept = [by_name[n] for n in seen.good if n not in left_out]
    _check_classes(Counter(one.label for one in kept), name, broken=len(seen.broken))
    duplicates = tuple(names for names in same if names not in contradictions)
    groups = _groups(kept, seen, duplicates)
    pools = _pools(kept, groups, seed)
    _check_pools(kept, groups, pools)
    records = [
        Record(
            file_name=f"{IMAGES}/{one.name}",
            text=captions[one.name],
            category=one.label,
            label=one.label,
            center=one.center or center,
            group=groups[one.name],
            pool=pools[groups[one.name]],  # type: ignore[arg-type]
        )
        for one in kept
    ]
    cells = Counter((record.label, record.pool) for record in records)
    sizes = Counter(groups.values())
    report = FolderReport(
        preparation={**preparation, "groups_given": sum(one.group is not None for one in kept)},
        images=len(records),
        captioned=sum(bool(one.captions) for one in kept),
        by_class_pool={
            label: {pool: cells[label, pool] for pool in POOLS}  # type: ignore[index]
            for label in sorted({record.label for record in records})
        },
        by_center=dict(sorted(Counter(record.center for record in records).items())),
        groups=len(sizes),
        shared_groups=sum(size > 1 for size in sizes.values()),
        duplicates=duplicates,
        broken=seen.broken,
        contradictions=contradictions,
    )
    with new_folder(out.resolve()) as folder:
        for one in kept:
            link_or_copy(one.path, folder / IMAGES / one.name)
        write_metadata(folder, records)
        (folder / REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n", "utf-8")
    return report


def _of_class(prompts: Sequence[str], label: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(prompt.replace("{label}", label.replace("_", " ")) for prompt in prompts))


def _check_classes(counts: Mapping[str, int], name: str, *, broken: int = 0) -> None:
    least = FEWEST * len(POOLS)
    also = f" that can be read ({broken} cannot)" if broken else ""
    if len(counts) < 2:
        only = f"only the class {next(iter(counts))!r}" if counts else "no image"
        raise DatasetError(
            f"{name}: there is {only}{also}, and a study tells one class from others; put images of at "
            "least one other class, for instance normal ones, into a folder of their own beside it"
        )
    few = {label: count for label, count in sorted(counts.items()) if count < least}
    if few:
        shown = ", ".join(f"{label!r} has {count}" for label, count in few.items())
        raise DatasetError(
            f"{name}: too few images{also} of a class: {shown}. The three pools need {FEWEST} each, so "
            f"at least {least} of a class, and about {5 * CLAIM_FROM} for a claim; add images, or move the "
            "class out of the folder"
        )


def _check_language(captions: Sequence[str]) -> None:
    found = foreign_caption(list(dict.fromkeys(captions)))
    if found is not None:
        text, language = found
        raise DatasetError(
            f"the caption {text!r} seems to be {language}, and the usual text encoders read English; "
            "translate the captions, or leave them out (--no-captions) and give --prompt 'an image of ...' "
            "in English; --any-language keeps them, for networks that read them"
        )


def _groups(kept: Sequence[Found], seen: Seen, same: Sequence[tuple[str, ...]]) -> dict[str, str]:
    names = [one.name for one in kept]
    known = {one.name: one.group or one.name for one in kept}
    return groups_by_looks(names, seen, same, known=known)


def _pools(kept: Sequence[Found], groups: Mapping[str, str], seed: int) -> dict[str, str]:
    members: dict[str, list[str]] = defaultdict(list)
    for one in kept:
        members[groups[one.name]].append(one.label)
    return assign_pools(members, pools=list(zip(POOLS, SHARES, strict=True)), seed=seed, least=FEWEST)


def _check_pools(kept: Sequence[Found], groups: Mapping[str, str], pools: Mapping[str, str]) -> None:
    cells = Counter((one.label, pools[groups[one.name]]) for one in kept)
    for label in sorted({one.label for one in kept}):
        for pool in POOLS:
            if cells[label, pool] < FEWEST:
                own = [groups[one.name] for one in kept if one.label == label]
                raise DatasetError(
                    f"the {len(own)} images of class {label!r} lie in {len(set(own))} groups (one patient, "
                    f"or nearly the same), which cannot be split: the pool {pool} gets {cells[label, pool]} "
                    f"of them and needs {FEWEST}; add images of other patients, or make the groups smaller"
                )
