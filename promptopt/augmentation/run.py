"""Makes an augmentation set: draws, filters, draws again, writes; at any size in constant memory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.family import MAIN
from promptopt.augmentation.drawing import Drawn, draw_chunks
from promptopt.augmentation.filters import (
    BLACK,
    FILTERS,
    DuplicatesFilter,
    Filter,
    Reference,
    class_filters,
    label_of,
)
from promptopt.augmentation.journal import SUMMARY, Journal
from promptopt.augmentation.pictures import Picture
from promptopt.augmentation.quota import Quota
from promptopt.augmentation.results import AugmentationSet, ClassResult, Format, drawn, image_row
from promptopt.augmentation.setfolder import finished as finished_set
from promptopt.augmentation.setfolder import write_checksums
from promptopt.augmentation.sources import (
    AugmentationError,
    ClassSource,
    check_classes,
    check_generator,
)
from promptopt.augmentation.writers import (
    IN_A_FOLDER,
    Entry,
    FolderWriter,
    ShardWriter,
    Writer,
    slug,
    texts,
)
from promptopt.base.checksums import summed
from promptopt.base.files import writable_folder, write_json, write_text
from promptopt.base.locks import hold
from promptopt.synthesis.plan import image_seed
from studies.dataset import METADATA

if TYPE_CHECKING:
    from generators.base import Generator
    from generators.request import ImageRequest

ATTEMPTS = 5.0
"""Images made for each one wanted, at most, before a shortfall is said to be one."""

CHUNK = 64
"""Images drawn and looked at together: what a kill costs at most."""

SHARD = 1000


def augment(
    sources: Sequence[ClassSource],
    out: str | Path,
    *,
    counts: Mapping[str, int],
    reference: Reference,
    filters: Sequence[str] = FILTERS,
    open_generator: Callable[[ClassSource], Generator],
    seed: int = 0,
    format: Format = "imagefolder",  # noqa: A002  as the command line calls it
    attempts: float = ATTEMPTS,
    shard_size: int = SHARD,
    allow_other_generator: bool = False,
    force: bool = False,
    on_image: Callable[[int, int, bool], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> AugmentationSet:
    """Make a set of synthetic images, class by class; what exists is kept, so the same call goes on.

    Each prompt has its share of a class's images (`promptopt.synthesis.plan.shares`). Its images are drawn
    with seeds that follow from `seed`, the prompt and the number of the attempt, those of all prompts side by
    side; what the filters refuse is replaced in the next round, up to `attempts` times the share, and after
    that by other prompts (`promptopt.augmentation.quota.Quota`). Images are looked at in one order, whoever
    makes them, and made ahead of that.

    Args:
        sources: one a class.
        out: the folder, made when absent.
        counts: class name -> images.
        reference: real images and networks of the filters, and the classes' labels.
        filters: names of `FILTERS`.
        open_generator: loads the generator of a class; called for each class before any image is made.
        seed: of the set.
        format: files in a folder for each class, or tar shards of `shard_size` images.
        attempts: 1 or more.
        allow_other_generator: warn, in place of refusing, of weights that are not the study's.
        force: replace a set that lies there with other settings.
        on_image: called with (images kept, images in all, whether it was made now).
        on_warning: called with a line of text.

    Raises:
        AugmentationError: see the sources; a folder of other settings or origin; a disk that is full (then
            all finished images stay, and the same call goes on).
        generators.GeneratorError: the generator fails.
    """
    check_classes(sources)
    for name, value, least in (("attempts", attempts, 1), ("shard_size", shard_size, 1)):
        if not value >= least:
            raise AugmentationError(f"{name} is {value}; give {least} or more")
    for source in sources:
        if counts.get(source.name, 0) < 1:
            raise AugmentationError(
                f"class {source.name}: {counts.get(source.name, 0)} images; give 1 or more"
            )
    folder = writable_folder(Path(out), "the augmentation set")
    busy = AugmentationError("another process makes images there", file=folder, remedy="Wait for it.")
    with hold(folder / ".lock", busy):
        run = _Run(
            sources, folder, counts, reference, filters, open_generator,
            seed=seed, format=format, attempts=attempts, shard_size=shard_size,
            allow_other=allow_other_generator, on_image=on_image, on_warning=on_warning,
        )  # fmt: skip
        return run.make(force=force)


class _Run:
    def __init__(
        self,
        sources: Sequence[ClassSource],
        folder: Path,
        counts: Mapping[str, int],
        reference: Reference,
        filters: Sequence[str],
        open_generator: Callable[[ClassSource], Generator],
        *,
        seed: int,
        format: Format,  # noqa: A002
        attempts: float,
        shard_size: int,
        allow_other: bool,
        on_image: Callable[[int, int, bool], None] | None,
        on_warning: Callable[[str], None] | None,
    ) -> None:
        self._sources, self._folder, self._counts = sources, folder, counts
        self._reference, self._filters = reference, filters
        self._seed, self._format, self._attempts, self._size = seed, format, attempts, shard_size
        self._on_image, self._on_warning = on_image, on_warning
        self._labels = {s.name: label_of(reference.data, s.positives) for s in sources}
        self._journal = Journal(folder)
        large = [slug(name) for name, count in counts.items() if count > IN_A_FOLDER]
        self._writer: Writer = (
            FolderWriter(folder, large=large)
            if format == "imagefolder"
            else ShardWriter(folder, size=shard_size)
        )
        self._made = self._done = 0
        self._generators = [open_generator(source) for source in sources]
        for source, generator in zip(sources, self._generators, strict=True):
            if (text := check_generator(source, generator, allow_other=allow_other)) and on_warning:
                on_warning(text)

    def make(self, *, force: bool) -> AugmentationSet:
        settings = self._settings()
        try:
            done = finished_set(self._folder, settings, force=force, on_warning=self._on_warning)
            if done is not None:
                return done
            self._journal.open(settings, intact=self._writer.intact)
            if self._journal.state is not None:
                self._writer.resume(self._journal.state)
            elif self._format == "webdataset":
                self._writer.resume({"shard": 0, "images": 0, "offset": 0})
            self._done = sum(self._journal.kept(n) for n in range(len(self._sources)))
            if self._done and self._on_image is not None:
                self._on_image(self._done, self._total, False)
            for number, source in enumerate(self._sources):
                self._make_class(number, source)
            self._writer.finish()
            return self._finish(settings)
        except OSError as error:
            remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the folder"
            place = f"{error.filename}: " if error.filename else f"{self._folder}: "
            raise AugmentationError(
                f"{place}{error.strerror or type(error).__name__}; {remedy}\n{self._done} of {self._total} "
                "images are finished and stay; the same command goes on with the rest"
            ) from error

    @property
    def _total(self) -> int:
        return sum(self._counts[source.name] for source in self._sources)

    def _settings(self) -> dict[str, Any]:
        """What a folder is kept to: all that decides its bytes, and no path."""
        judge, encoder = self._reference.judge, self._reference.encoder
        return {
            "format": self._format,
            "seed": self._seed,
            "attempts": self._attempts,
            "shard_size": self._size if self._format == "webdataset" else None,
            "filters": [name for name in FILTERS if name in self._filters],
            "data": self._reference.data.fingerprint,
            "pictures": hashlib.sha256(
                json.dumps(self._reference.data.digests(), sort_keys=True).encode()
            ).hexdigest(),
            "judge": None if judge is None else judge.fingerprint,
            "encoder": None if encoder is None else encoder.fingerprint,
            "classes": {
                source.name: {
                    "images": self._counts[source.name],
                    "study": source.study,
                    "generator": source.networks[MAIN].uri,
                    "request": drawn(source.request(generator, source.prompts[0], 0)),
                    "prompts": [[p.candidate.label, p.weight] for p in source.prompts],
                }
                for source, generator in zip(self._sources, self._generators, strict=True)
            },
        }

    def _make_class(self, number: int, source: ClassSource) -> None:
        quota = Quota(
            [prompt.weight for prompt in source.prompts],
            count=self._counts[source.name],
            attempts=self._attempts,
        )
        if not (attempts := self._round(number, quota)):
            return
        generator = self._generators[number]
        work = self._journal.work / f"kept-{number}.f16"
        filters = class_filters(
            source, self._filters, images=quota.count, reference=self._reference, work=work
        )
        for one in filters:
            if isinstance(one, DuplicatesFilter):
                kept, checksum = self._journal.kept(number), self._journal.features(number)
                one.resume(kept, checksum, partial(self._kept, number))
        while attempts:
            chunks = [attempts[start : start + CHUNK] for start in range(0, len(attempts), CHUNK)]
            asked = ([self._request(number, index, n) for index, n in chunk] for chunk in chunks)
            with closing(draw_chunks(generator, asked)) as made:
                for chunk, images in zip(chunks, made, strict=True):
                    self._chunk(number, source, filters, [index for index, _ in chunk], images)
            attempts = self._round(number, quota)

    def _round(self, number: int, quota: Quota) -> list[tuple[int, int]]:
        """What is left of this round, or else the next one; prompts with the numbers of their attempts."""
        at = [self._journal.at(number, index) for index in range(len(quota.weights))]
        if self._journal.round(number) and (left := quota.due(at)):
            return left
        self._journal.begin_round(number)
        return quota.due(at)

    def _request(self, number: int, index: int, attempt: int) -> ImageRequest:
        source = self._sources[number]
        prompt = source.prompts[index]
        seed = image_seed(self._seed, prompt.key, attempt)
        return source.request(self._generators[number], prompt, seed)

    def _kept(self, number: int) -> Iterator[Picture]:
        for row in self._journal.rows(number):
            yield Picture(content=self._writer.read(row["file_name"]), name=row["file_name"])

    def _chunk(
        self,
        number: int,
        source: ClassSource,
        filters: Sequence[Filter],
        prompts: Sequence[int],
        images: Sequence[Drawn],
    ) -> None:
        self._made += len(images)
        kept = [(request, image) for request, image in images if image is not None]
        owners = [index for index, (_, image) in zip(prompts, images, strict=True) if image is not None]
        removed = Counter({BLACK: len(images) - len(kept)})
        scores: list[dict[str, float | None]] = [dict.fromkeys(FILTERS) for _ in kept]
        for one in filters:
            look = one.look([image for _, image in kept])
            for row, score in zip(scores, look.scores, strict=True):
                row[one.name] = score
            removed[one.name] += look.stays.count(False)
            kept = [own for own, stays in zip(kept, look.stays, strict=True) if stays]
            owners = [own for own, stays in zip(owners, look.stays, strict=True) if stays]
            scores = [own for own, stays in zip(scores, look.stays, strict=True) if stays]
        before = self._journal.kept(number)
        rows = self._write(source, kept, scores, before)
        line = {
            "class": number,
            "round": self._journal.round(number),
            "tried": list(Counter(prompts).items()),
            "kept": list(Counter(owners).items()),
            "removed": {name: count for name, count in sorted(removed.items()) if count},
            "rows": rows,
            "pieces": [astuple(piece) for piece in self._writer.settle()],
            "features": next((one.checksum for one in filters if isinstance(one, DuplicatesFilter)), 0),
            "state": self._writer.state(),
        }
        self._journal.add(line)
        self._done += len(rows)
        if self._on_image is not None:
            for done in range(self._done - len(rows) + 1, self._done + 1):
                self._on_image(done, self._total, True)

    def _write(
        self,
        source: ClassSource,
        kept: Sequence[tuple[ImageRequest, Picture]],
        scores: Sequence[Mapping[str, float | None]],
        before: int,
    ) -> list[dict[str, Any]]:
        group = slug(source.name)
        category, label = self._labels[source.name]
        rows = [
            image_row(source, request, own, number, category=category, label=label)
            for number, ((request, _), own) in enumerate(zip(kept, scores, strict=True), start=before + 1)
        ]
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            contents = pool.map(lambda own, row: own[1].png(texts(own[0], row["attributes"])), kept, rows)
            for number, (row, content) in enumerate(zip(rows, contents, strict=True), start=before + 1):
                row["file_name"] = self._writer.add(Entry(group, number, content, row))
        return rows

    def _finish(self, settings: Mapping[str, Any]) -> AugmentationSet:
        classes = tuple(
            ClassResult(
                name=source.name,
                label=self._labels[source.name][1],
                wanted=self._counts[source.name],
                kept=self._journal.kept(number),
                tried=self._journal.tried(number),
                removed=dict(sorted(self._journal.removed(number).items())),
            )
            for number, source in enumerate(self._sources)
        )
        if self._format == "imagefolder":
            write_text(self._folder / METADATA, (json.dumps(row) + "\n" for row in self._journal.rows()))
        seal = write_checksums(self._folder, self._journal.pieces(), shards=self._format == "webdataset")
        document = {
            "format": "promptopt-augmentation",
            "version": 1,
            "synthetic": True,
            "note": "Every image is synthetic. Not for diagnosis.",
            "classes": [vars(one) for one in classes],
            "settings": settings,
            "checksums": seal,
        }
        write_json(self._folder / SUMMARY, summed(document))
        shutil.rmtree(self._journal.work)
        return AugmentationSet(
            folder=self._folder, format=self._format, classes=classes, generated=self._made
        )
