"""The image synthesis part of a submission: what `promptopt synthesize` made, checked and taken over."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from generators.stores.address import store_folder
from promptopt.base.files import file_digest, link_or_copy
from promptopt.challenge.submission.details import SynthesisEntry
from promptopt.run.errors import ExportError
from promptopt.synthesis.folder import IMAGES, MANIFEST
from promptopt.synthesis.manifest import ManifestWriter, manifest_rows
from promptopt.synthesis.prompt_files import read_prompt_file
from promptopt.synthesis.run import synthesize

if TYPE_CHECKING:
    from generators.base import Generator

SYNTHESIS = "synthesis"
_SETTINGS = "synthesis.json"


def make_synthesis(
    prompts: Path,
    generator: Generator,
    work: Path,
    *,
    per_prompt: int,
    store: Path,
    on_image: Callable[[int, int, bool], None] | None = None,
) -> Path:
    """Make the images of a list of prompts in `work`; they stay in the store, so a second call makes none.

    Raises: as `promptopt.synthesis.run.synthesize` and `read_prompt_file`.
    """
    listed = read_prompt_file(prompts)
    synthesize(
        listed.prompts,
        generator,
        work,
        per_prompt=per_prompt,
        store=store_folder(store) / "images",
        on_image=on_image,
    )
    return work


def take_synthesis(
    source: Path, target: Path, *, models: dict[str, str], categories: Collection[str]
) -> SynthesisEntry:
    """Link or copy the images of a finished synthesis into `target`, with its manifest.

    Args:
        source: OUT of `promptopt synthesize`.
        target: folder to fill.
        models: fingerprint -> what the manifest calls that generator from now on.
        categories: for the message where the images are of none of these studies' generators.

    Raises ExportError: no synthesis, one that is not finished, an image that is missing, changed or outside
    of the folder, or of another generator.
    """
    manifest = source / MANIFEST
    rows = read_manifest(manifest)
    planned = _planned(source)
    if planned is not None and len(rows) != planned:
        raise ExportError(
            f"{manifest}: lists {len(rows)} images, and {planned} were to be made; run the same "
            "`promptopt synthesize` again, it goes on"
        )
    target.mkdir(parents=True, exist_ok=True)
    with (target / MANIFEST).open("w", encoding="utf-8", newline="") as stream:
        writer = ManifestWriter(stream)
        for line, row in enumerate(rows, start=2):
            where = f"{manifest}, line {line}"
            path = source / inside(row["file"], where)
            if row["fingerprint"] not in models:
                raise ExportError(
                    f"{where}: {row['file']} is of another generator ({row['fingerprint'][:12]}) than the "
                    f"studies' of {', '.join(categories)}; make the images with one of theirs"
                )
            if not path.is_file():
                raise ExportError(
                    f"{where}: {row['file']} is missing; run the same `promptopt synthesize` again"
                )
            if file_digest(path) != row["sha256"]:
                raise ExportError(
                    f"{path}: changed since it was made (sha256); remove it and run the same "
                    "`promptopt synthesize` again"
                )
            link_or_copy(path, target / row["file"])
            writer.write({**row, "generator": models[row["fingerprint"]]})
    return SynthesisEntry(prompts=len({row["prompt_number"] for row in rows}), images=len(rows))


def read_manifest(path: Path) -> list[dict[str, str]]:
    """Rows of a manifest.csv or images.csv.

    Raises ExportError: missing, not of these columns, or empty.
    """
    try:
        rows = list(manifest_rows(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(
            f"{path}: cannot be read ({reason}); give a folder that `promptopt synthesize` finished"
        ) from error
    except ValueError as error:
        raise ExportError(f"{path}: is no manifest of `promptopt synthesize`; {error}") from error
    if not rows:
        raise ExportError(f"{path}: lists no image; make some first")
    if len({row["file"] for row in rows}) < len(rows):
        raise ExportError(f"{path}: lists a file twice; make the folder anew")
    return rows


def inside(name: str, where: str) -> PurePosixPath:
    """A file name of a manifest, if it stays in the folder's images.

    Raises ExportError otherwise.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.parts[:1] != (IMAGES,) or "\\" in name:
        raise ExportError(f"{where}: {name!r} leads out of {IMAGES}/; images must lie in there")
    return path


def _planned(source: Path) -> int | None:
    """Images that the folder's settings ask for, where they say so."""
    try:
        settings = json.loads((source / _SETTINGS).read_text(encoding="utf-8"))
        if settings["total"] is not None:
            return int(settings["total"])
        return int(settings["per_prompt"]) * int(settings["prompts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
