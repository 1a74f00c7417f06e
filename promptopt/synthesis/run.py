"""Makes the images: the challenge's image synthesis task, at any size in constant memory."""

from __future__ import annotations

import csv
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.base.files import writable_folder
from promptopt.base.locks import hold
from promptopt.formatting.numbers import file_size
from promptopt.space.prompt_lines import PromptLine
from promptopt.synthesis.folder import IMAGES, MANIFEST, STORE, keep_settings, kept_pattern, place
from promptopt.synthesis.index import Entry, Index
from promptopt.synthesis.listing import Listing
from promptopt.synthesis.manifest import COLUMNS, ManifestWriter
from promptopt.synthesis.naming import IN_A_FOLDER, LARGE, PATTERN, check_pattern
from promptopt.synthesis.plan import (
    Item,
    Plan,
    Sampling,
    SynthesisError,
    describe_too_long,
    shares,
    split_too_long,
)

if TYPE_CHECKING:
    from generators.base import Generator
    from generators.request import ImageRequest
    from generators.store import StoredImage

_PARTIAL = ".manifest.partial"
AHEAD = 1024
"""Images that may be asked for before earlier ones have been made."""
_TOGETHER = 512  # images after which a store that gathers them puts them where others see them
_FEW_BAD = 8  # bad images that do not stop the others, however many these are
_FIRST = 32  # images after which the disk space still needed is known well enough


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """What was made.

    Attributes:
        images: number of images in the folder.
        generated: of them, made now; the others were in the store.
        too_long: prompts left out for their length.
        size: bytes of the image files.
        copied: images that had to be copied out of the store, since the disk knows no hard links.
    """

    folder: Path
    manifest: Path
    images: int
    generated: int
    too_long: tuple[PromptLine, ...]
    size: int
    copied: int


def synthesize(
    prompts: Sequence[PromptLine],
    generator: Generator,
    out: str | Path,
    *,
    per_prompt: int | None = None,
    total: int | None = None,
    seed: int = 0,
    pattern: str | None = None,
    sampling: Sampling | None = None,
    skip_too_long: bool = False,
    store: str | Path | None = None,
    on_image: Callable[[int, int, bool], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Synthesis:
    """Make the images of every prompt; what exists is kept, so that the same call goes on after any end.

    Args:
        prompts: from `read_prompt_file` or `prompt_lines`.
        generator: from `generators.load`.
        out: the folder, made when absent.
        per_prompt: images of each prompt, 1 when neither is given; or
        total: images in all, shared out by the prompts' weights.
        seed: of the run; see `image_seed`.
        pattern: of the file names; see `check_pattern`. None for the folder's own; in a new one `PATTERN`,
            and `LARGE`, with folders within, from 10,001 images on.
        sampling: negative prompt (a prompt's own goes first), steps, guidance and scheduler.
        skip_too_long: leave out prompts with more tokens than the generator reads, instead of refusing.
        store: the image store, a folder or a URL; OUT/.store when not given.
        on_image: called with (images at hand, images in all, whether it was generated now).
        on_warning: called once where the disk seems too small for what is left.

    Raises:
        SynthesisError: nothing to do, prompts that are too long (all are listed), a folder with images of
            other settings or with more of them, one that another process writes, or a disk that is full:
            then everything finished stays.
        generators.GeneratorError: the generator refuses a setting, or fails.
        PatternError: see `check_pattern`.
    """
    chosen = sampling or Sampling()
    if per_prompt is not None and total is not None:
        raise SynthesisError("per_prompt and total are both given; give one of them")
    for name, value in (("per_prompt", per_prompt), ("total", total)):
        if value is not None and value < 1:
            raise SynthesisError(f"{name} is {value}; give 1 or more")
    fitting, too_long = split_too_long(prompts, generator, negative_prompt=chosen.negative_prompt)
    if too_long and not skip_too_long:
        raise SynthesisError(describe_too_long(too_long, len(prompts), generator.max_tokens))
    if not fitting:
        raise SynthesisError(
            f"{len(prompts)} prompts, {len(too_long)} too long: none is left to make images of"
        )
    if total is None:
        per_prompt = per_prompt or 1
        counts = [per_prompt] * len(fitting)
    else:
        counts = shares([prompt.weight for prompt in fitting], total)
    if pattern is None:
        pattern = kept_pattern(Path(out)) or (PATTERN if sum(counts) <= IN_A_FOLDER else LARGE)
    plan = Plan(
        prompts=fitting,
        counts=counts,
        per_prompt=per_prompt,
        total=total,
        generator=generator,
        seed=seed,
        pattern=check_pattern(pattern, images=max(counts)),
        sampling=chosen,
    )
    folder = writable_folder(Path(out), "the images")
    busy = SynthesisError("another process makes images there", file=folder, remedy="Wait for it.")
    with hold(folder / ".lock", busy):
        run = _Run(plan, folder, store, on_image=on_image, on_warning=on_warning)
        return run.make(tuple(prompt for prompt, _ in too_long))


class _Run:
    def __init__(
        self,
        plan: Plan,
        folder: Path,
        store: str | Path | None,
        *,
        on_image: Callable[[int, int, bool], None] | None,
        on_warning: Callable[[str], None] | None,
    ) -> None:
        from generators.stores.opening import open_store

        self._plan = plan
        self._folder = folder
        self._store = open_store(folder / STORE if store is None else store)
        self._on_image = on_image
        self._on_warning = on_warning
        self._done = self._made = self._size = self._copied = self._rows = 0

    def make(self, too_long: tuple[PromptLine, ...]) -> Synthesis:
        from generators.errors import StoreError

        partial, manifest = self._folder / _PARTIAL, self._folder / MANIFEST
        total = len(self._plan)
        try:
            keep_settings(self._folder, self._plan)
            with partial.open("w", encoding="utf-8", newline="") as stream, Index(self._folder) as index:
                listing = Listing(ManifestWriter(stream), index, uri=self._plan.generator.uri)
                self._make_images(listing, index)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(manifest)
        except (OSError, StoreError) as error:
            self._keep_manifest(partial, manifest)
            raise SynthesisError(
                f"{_reason(error, self._folder)}\n{self._done} of {total} images are finished and stay; "
                "the same command goes on with the rest"
            ) from error
        except BaseException:
            self._keep_manifest(partial, manifest)
            raise
        return Synthesis(
            folder=self._folder,
            manifest=manifest,
            images=self._done,
            generated=self._made,
            too_long=too_long,
            size=self._size,
            copied=self._copied,
        )

    def _make_images(self, listing: Listing, index: Index) -> None:
        from generators.bad_images import BadImage, BadImageError
        from generators.errors import StoreError
        from generators.fetching import engine_of

        asked: dict[ImageRequest, Item] = {}  # being made
        bad: list[BadImage] = []

        def missing() -> Iterator[ImageRequest]:
            for chunk in self._plan.chunks():
                for item in self._lacking(chunk, listing, index):
                    asked[item.request] = item
                    yield item.request

        def on_bad(image: BadImage) -> None:
            listing.leave_out(asked.pop(image.request))
            bad.append(image)
            if len(bad) > max(_FEW_BAD, self._made):  # the rest is not worth its time
                raise BadImageError(bad, made=self._made + len(bad))

        engine = engine_of(self._plan.generator, self._store)
        try:
            for made in engine.make(missing(), ahead=AHEAD, on_bad=on_bad):
                self._take(asked.pop(made.asked), made.image, listing, index, new=made.new)
                if self._made % _TOGETHER == 0:
                    self._store.flush()
            self._store.flush()
        except BaseException:
            # A store may keep images that it had no time to tell of; the error is the one to report.
            with suppress(StoreError):
                self._store.flush()
            with suppress(OSError, StoreError):
                left = list(asked.items())
                for (_, item), stored in zip(left, self._store.get_many(r for r, _ in left), strict=True):
                    if stored is not None:
                        self._take(item, stored, listing, index, new=True)
            raise
        finally:  # what is finished is listed, however it ends
            listing.close()
            self._rows = listing.rows
        if bad:
            raise BadImageError(bad, made=self._made + len(bad))

    def _lacking(self, chunk: list[Item], listing: Listing, index: Index) -> Iterator[Item]:
        """Those that neither the folder nor the store has."""
        from generators.store import StoredImage

        left = []
        for item in chunk:
            listing.expect(item)
            if (entry := index.unchanged(item)) is None:
                left.append(item)
            else:
                path = self._folder / IMAGES / item.name
                self._count(item, StoredImage(item.request, path, entry.sha256), entry, listing, new=False)
        for item, stored in zip(left, self._store.get_many([one.request for one in left]), strict=True):
            if stored is None:
                request = self._plan.request(item.prompt, item.image)
                if request != item.request:  # the batch was halved since
                    item, stored = replace(item, request=request), self._store.get(request)
            if stored is None:
                yield item
            else:
                self._take(item, stored, listing, index, new=False)

    def _take(self, item: Item, image: StoredImage, listing: Listing, index: Index, *, new: bool) -> None:
        """An image of the store gets its name."""
        self._copied += place(image, self._folder / IMAGES / item.name)
        self._count(item, image, index.entry(item, image.sha256), listing, new=new)

    def _count(self, item: Item, image: StoredImage, entry: Entry, listing: Listing, *, new: bool) -> None:
        listing.there(item, image, entry)
        self._size += int(entry.size)
        self._done += 1
        self._made += new
        if self._on_image is not None:
            self._on_image(self._done, len(self._plan), new)
        if new and self._made == _FIRST:
            self._check_space(len(self._plan))

    def _keep_manifest(self, partial: Path, manifest: Path) -> None:
        """After an error: the list of what is finished, where it is whole and longer than an older one."""
        with suppress(OSError):  # the error that led here is the one to report
            rows = _rows(partial)
            if rows == self._rows and rows > _rows(manifest):
                partial.replace(manifest)

    def _check_space(self, total: int) -> None:
        needed = self._size / self._done * (total - self._done)
        free = shutil.disk_usage(self._folder).free
        if needed > free and self._on_warning is not None:
            self._on_warning(
                f"{self._folder}: the images that are left need about {file_size(needed)}, "
                f"{file_size(free)} are free"
            )


def _rows(manifest: Path) -> int:
    """Whole rows of a manifest; 0 where there is none."""
    if not manifest.exists():
        return 0
    with manifest.open(encoding="utf-8", newline="") as stream:
        next(reader := csv.reader(stream), None)
        return sum(len(row) == len(COLUMNS) and len(row[-1]) == 64 for row in reader)


def _reason(error: Exception, folder: Path) -> str:
    if not isinstance(error, OSError):
        return str(error)
    remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the folder"
    return f"{error.filename or folder}: {error.strerror or type(error).__name__}; {remedy}"
