"""A blinded sheet: real and synthetic images in one order, to be told apart by a committee.

Nothing but the picture may tell them apart. So every image is cropped to its central square, brought to one
size and stored again as a PNG without compression: as many bytes for every image, no metadata, one date.
Which is which stands in the key alone, which lies outside the sheet's folder, as does the seed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptopt.base.files import images_below, writable_folder, write_json, write_text
from promptopt.formatting.pictures import png_bytes
from promptopt.formatting.tables import csv_table
from promptopt.review.candidates import candidates
from promptopt.review.records import ReviewError
from promptopt.run.images import RunImages, missing_sentence
from studies.phantom import is_phantom

if TYPE_CHECKING:
    from PIL import Image

PAGE = "sheet.html"
ANSWERS = "answers.csv"
COLUMNS = ("sheet", "rater", "number", "answer", "comment")
KEY_FORMAT = "promptopt-sheet-key"
_DATE = 946_684_800  # 2000-01-01, of every file
_LARGEST = 384  # pixels, unless asked for


@dataclass(frozen=True)
class Source:
    """An image before it is blinded. `prompt` is None for a real one."""

    path: Path
    prompt: str | None


@dataclass(frozen=True)
class Sheet:
    """What was written. `notes` say what a reader of the results should know."""

    sheet: str
    folder: Path
    page: Path
    answers: Path
    key: Path
    size: int
    notes: tuple[str, ...]


def write_sheet(
    images: RunImages,
    real: str | Path,
    out: str | Path,
    *,
    key: str | Path | None = None,
    each: int = 20,
    pool: str = "test",
    size: int | None = None,
    seed: int = 0,
    force: bool = False,
) -> Sheet:
    """Write the raters' folder and the key.

    The synthetic images are those of the prompts that a finished study confirmed, shared out by their
    weights; of another study, those of its best prompts in turn.

    Args:
        images: of the run.
        real: a prepared data set, of which `pool` and the run's own category or label are taken, or a folder
            of images.
        out: the raters' folder.
        key: default OUT-key.json beside it; never inside.
        each: images of either kind.
        size: side in pixels; default the smallest side of any image on the sheet, at most 384.
        force: replace an earlier sheet and its key.

    Raises:
        ReviewError: too few images, a key inside the folder, or files that are there already.
    """
    folder = Path(out)
    key = folder.with_name(f"{folder.resolve().name}-key.json") if key is None else Path(key)
    if key.resolve().is_relative_to(folder.resolve()):
        raise ReviewError(f"--key {key}: lies in the raters' folder {folder}. Put the key elsewhere.")
    taken = [path for path in (folder / PAGE, folder / ANSWERS, key) if path.exists()]
    if taken and not force:
        raise ReviewError(
            f"{taken[0]}: is there already, and its answers would not fit a new sheet. Choose another --out, "
            "or replace it with --force."
        )
    rng = np.random.default_rng([seed, 0x5EE7])
    synthetic = _synthetic(images, each, rng)
    found = [*_real(images, Path(real), pool, each, rng), *synthetic]
    order = rng.permutation(len(found))
    sources = [found[int(index)] for index in order]
    pictures = [_square(source.path) for source in sources]
    side = size or min(_LARGEST, min(picture.width for picture in pictures))
    contents = [_blind(picture, side) for picture in pictures]
    sheet = hashlib.sha256(b"".join(contents)).hexdigest()[:12]
    writable_folder(folder / "images", "the sheet")
    for leftover in (folder / "images").glob("*.png"):  # of a sheet that this one replaces
        leftover.unlink()
    names = [f"{number:03d}.png" for number in range(1, len(contents) + 1)]
    for name, content in zip(names, contents, strict=True):
        (folder / "images" / name).write_bytes(content)
    writable_folder(key.parent, "the key")
    _write_key(key, sheet, seed, side, sources, contents)
    category = str(images.settings["category"]["title"])
    page = write_text(folder / PAGE, _page(sheet, names, category, drawn=images.drawn or is_phantom(real)))
    answers = write_text(folder / ANSWERS, _answers(sheet, len(names)))
    for path in (page, answers, *((folder / "images" / name) for name in names)):
        os.utime(path, (_DATE, _DATE))
    return Sheet(sheet, folder, page, answers, key, side, tuple(_notes(pictures, sources, side)))


def _synthetic(images: RunImages, each: int, rng: np.random.Generator) -> list[Source]:
    prompts, stage = candidates(images, most=10)
    weighted = [(prompt.candidate, prompt.weight) for prompt in prompts if prompt.weight > 0]
    shares = weighted or [(prompt.candidate, 1.0) for prompt in prompts[1:]]
    stored = {one: images.present(one, stage=stage) for one, _ in shares}
    queues = {one: [found[int(i)] for i in rng.permutation(len(found))] for one, found in stored.items()}
    given = dict.fromkeys(queues, 0)
    chosen: list[Source] = []
    while len(chosen) < each:
        open_ = [(one, weight) for one, weight in shares if given[one] < len(queues[one])]
        if not open_:
            wanted = len(shares) * images.count(stage)
            there = sum(map(len, queues.values()))
            if there < wanted:
                raise ReviewError(missing_sentence(there, wanted, images))
            raise ReviewError(f"--each {each}: the run's prompts have {there} images. Ask for fewer.")
        # the one that is furthest behind its share
        one = max(open_, key=lambda row: row[1] / (given[row[0]] + 1))[0]
        chosen.append(Source(queues[one][given[one]].path, one.label))
        given[one] += 1
    return chosen


def _real(images: RunImages, place: Path, pool: str, each: int, rng: np.random.Generator) -> list[Source]:
    from studies.dataset import metadata_file, read_dataset, share_out

    if metadata_file(place) is not None:
        dataset = share_out(read_dataset(place)).where(pool=pool)
        wanted = str(images.settings["positives"])
        paths = [dataset.path(r) for r in dataset if wanted in (r.category, r.label)]
        what = f"{place}, pool {pool!r}, {wanted!r}"
    else:
        if not place.is_dir():
            raise ReviewError(
                f"--real {place}: no such folder. Give a prepared data set, or a folder of images."
            )
        paths, _ = images_below(place)
        what = str(place)
    if len(paths) < each:
        raise ReviewError(f"--each {each}: {what} has {len(paths)} images. Ask for fewer, or give more.")
    return [Source(paths[int(index)], None) for index in rng.permutation(len(paths))[:each]]


def _square(path: Path) -> Image.Image:
    """The central square, RGB."""
    from promptopt.base.images import read_image

    image = read_image(path, error=ReviewError)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _blind(image: Image.Image, side: int) -> bytes:
    """Pixels and nothing else, in as many bytes for every image."""
    from PIL import Image

    resized = image.resize((side, side), Image.Resampling.LANCZOS)
    return png_bytes(resized, compress_level=0)


def _write_key(
    path: Path, sheet: str, seed: int, side: int, sources: Sequence[Source], contents: Sequence[bytes]
) -> None:
    rows: list[dict[str, Any]] = [
        {
            "number": number,
            "synthetic": source.prompt is not None,
            "source": source.path.name,
            "prompt": source.prompt,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        for number, (source, content) in enumerate(zip(sources, contents, strict=True), start=1)
    ]
    document = {
        "format": KEY_FORMAT,
        "version": 1,
        "sheet": sheet,
        "seed": seed,
        "size": side,
        "images": rows,
    }
    write_json(path, document, ensure_ascii=False)
    path.chmod(0o600)


def _answers(sheet: str, count: int) -> str:
    return csv_table(COLUMNS, [[sheet, "", number, "", ""] for number in range(1, count + 1)])


def _page(sheet: str, names: Sequence[str], category: str, *, drawn: bool) -> str:
    from promptopt.formatting.pages import page_templates

    template = page_templates("promptopt.review").get_template("sheet.html.jinja")
    return template.render(sheet=sheet, names=names, category=category, drawn=drawn)


def _notes(pictures: Sequence[Image.Image], sources: Sequence[Source], side: int) -> list[str]:
    def sides(synthetic: bool) -> set[int]:
        return {
            p.width for p, s in zip(pictures, sources, strict=True) if (s.prompt is not None) is synthetic
        }

    notes = []
    made, real = sides(True), sides(False)
    if max(made | real) > 1.5 * side or made != real:
        notes.append(
            f"real images had {_range(real)} pixels, synthetic ones {_range(made)}; all are shown at {side}, "
            "so what the sheet says holds at that size"
        )
    if min(made | real) < side:
        notes.append(f"images smaller than {side} pixels were enlarged and look soft; leave --size out")
    return notes


def _range(sides: set[int]) -> str:
    return str(min(sides)) if len(sides) == 1 else f"{min(sides)} to {max(sides)}"
