"""The sets that a proof compares: one choice of prompts, and others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from promptopt.augmentation.run import augment
from promptopt.augmentation.sources import ClassSource, SourcePrompt
from promptopt.run.prompt_sets import spread
from promptopt.space import Candidate
from promptopt.space.captions import caption_prompts
from studies.dataset import Dataset

SET, CAPTIONS = "set", "captions"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to choose the prompts. `sources` lacks classes whose prompts are those of the first variant."""

    name: str
    sources: tuple[ClassSource, ...]


def prompts_of(
    sources: Sequence[ClassSource],
    method: str,
    counts: Mapping[str, int],
    *,
    seed: int,
    data: Dataset | None = None,
) -> list[ClassSource]:
    """The same classes by another choice of prompts, `counts` images of each by name.

    Args:
        method: one of `ClassSource.by`, or "captions": those of the real images that a study may look at.
        data: those images.
    """
    if method == CAPTIONS and data is not None:
        return [_captioned(source, data, counts[source.name], seed=seed) for source in sources]
    return [source.by(method, counts[source.name], seed=seed) for source in sources]


def _captioned(source: ClassSource, data: Dataset, count: int, *, seed: int) -> ClassSource:
    if source.study is None:
        return source
    weights = {Candidate(text): weight for text, weight in caption_prompts(data, source.positives)}
    drawn = Counter(spread(weights, count, seed=seed))
    prompts = tuple(SourcePrompt(candidate=c, weight=float(n)) for c, n in drawn.items())
    return replace(source, prompts=prompts)


def variants(
    sources: Sequence[ClassSource],
    methods: Sequence[str],
    *,
    count: int,
    seed: int,
    data: Dataset | None = None,
) -> tuple[list[Variant], list[str]]:
    """The first method and those that it is compared with; and what is left out, with the reason.

    Raises:
        AugmentationError: an unknown name, or a method that a study does not have.
    """
    counts = {source.name: count for source in sources}
    first, *others = dict.fromkeys(methods)
    own = prompts_of(sources, first, counts, seed=seed, data=data)
    found, left_out = [Variant(name=first, sources=tuple(own))], []
    for name in others:
        other = prompts_of(sources, name, counts, seed=seed, data=data)
        pairs = [o for o, s in zip(other, own, strict=True) if _texts(o) != _texts(s)]
        if pairs:
            found.append(Variant(name=name, sources=tuple(pairs)))
        else:
            left_out.append(f"{name}: the same prompts as those of {first}, so there is nothing to compare")
    return found, left_out


def make_sets(
    chosen: Sequence[Variant],
    out: Path,
    *,
    count: int,
    tell: Callable[[str, int, int, bool], None] | None = None,
    **settings: Any,
) -> Mapping[str, list[Path]]:
    """Make each variant's set in OUT/NAME, `count` images a class; name -> folders that hold its classes.

    Args:
        tell: called with the variant's name and what `augment` tells of an image.
        settings: of `augment`.
    """
    folders: dict[str, list[Path]] = {}
    for variant in chosen:

        def on_image(done: int, total: int, new: bool, name: str = variant.name) -> None:
            if tell is not None:
                tell(name, done, total, new)

        folder = out / variant.name
        counts = {source.name: count for source in variant.sources}
        augment(variant.sources, folder, counts=counts, on_image=on_image, **settings)
        folders[variant.name] = [folder]
        if len(variant.sources) < len(chosen[0].sources):
            folders[variant.name].append(out / chosen[0].name)
    return folders


def _texts(source: ClassSource) -> list[tuple[str, float]]:
    """Prompts with their shares."""
    whole = sum(prompt.weight for prompt in source.prompts)
    return [(prompt.candidate.label, round(prompt.weight / whole, 6)) for prompt in source.prompts]
