"""The sets that a proof compares: the portfolio's, and those of the baseline and of random prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptopt.augmentation.run import augment
from promptopt.augmentation.sources import AugmentationError, ClassSource

PORTFOLIO, BASELINE, RANDOM = "portfolio", "baseline", "random"
COMPARED = (BASELINE, RANDOM)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to choose the prompts. `sources` lacks classes whose prompts are those of the portfolio."""

    name: str
    sources: tuple[ClassSource, ...]


def prompts_of(sources: Sequence[ClassSource], which: str, *, seed: int) -> list[ClassSource]:
    """The same classes from the portfolio, the plain prompt, or random prompts; given by hand, they stay.

    Raises:
        AugmentationError: an unknown name.
    """
    if which == PORTFOLIO:
        return list(sources)
    if which not in COMPARED:
        raise AugmentationError(f"{which!r} does not exist; use {', '.join((PORTFOLIO, *COMPARED))}")
    return [s.with_baseline() if which == BASELINE else s.with_random(seed) for s in sources]


def variants(
    sources: Sequence[ClassSource], compare: Sequence[str], *, seed: int
) -> tuple[list[Variant], list[str]]:
    """The portfolio and what it is compared with; and what is left out, with the reason.

    Raises:
        AugmentationError: an unknown name.
    """
    found, left_out = [Variant(name=PORTFOLIO, sources=tuple(sources))], []
    for name in compare:
        if name not in COMPARED:
            raise AugmentationError(f"--compare: {name!r} does not exist; use {', '.join(COMPARED)}")
        other = prompts_of(sources, name, seed=seed)
        pairs = [(o, s) for o, s in zip(other, sources, strict=True) if _texts(o) != _texts(s)]
        if pairs:
            found.append(Variant(name=name, sources=tuple(o for o, _ in pairs)))
        else:
            left_out.append(f"{name}: the portfolio is the same prompts, so there is nothing to compare")
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
            folders[variant.name].append(out / PORTFOLIO)
    return folders


def _texts(source: ClassSource) -> list[tuple[str, float]]:
    """Prompts with their shares."""
    whole = sum(prompt.weight for prompt in source.prompts)
    return [(prompt.candidate.label, round(prompt.weight / whole, 6)) for prompt in source.prompts]
