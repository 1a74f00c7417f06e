"""A Hugging Face data set of images, a local folder or one on the hub, read by ``datasets``."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promptopt.base.hub import PREFIX, HubAddress, downloading
from promptopt.base.images import format_of
from studies.dataset import DatasetError
from studies.folders.found import Found

_LABELS = ("label", "labels", "class", "category")
_TEXTS = ("text", "caption", "captions", "prompt")
_ENDS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}


@contextmanager
def open_imagefolder(
    source: str,
    *,
    split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    text_column: str | None = None,
    group_column: str | None = None,
    center_column: str | None = None,
) -> Iterator[list[Found]]:
    """The pictures of an imagefolder, or of ``hf:owner/name[@revision]``; files last as long as the block.

    All splits are taken together, as the pools are drawn by group; ``split`` names one to take alone. Columns
    that are not named are found by their usual names.

    Raises DatasetError: ``datasets`` is not installed, nothing there, a split or column that does not exist.
    """
    rows = _rows(source, split)
    columns = rows[0][1].column_names
    picture = image_column or _image_column(rows[0][1].features, source)
    label = _column(label_column, _LABELS, columns, source, "--label-column")
    if label is None:
        raise DatasetError(
            f"{source}: no column says the class; it has {', '.join(columns)}; name one with --label-column"
        )
    text = _column(text_column, _TEXTS, columns, source, "--text-column")
    group = _column(group_column, ("group", "patient", "patient_id"), columns, source, "--group-column")
    center = _column(center_column, ("center",), columns, source, "--center-column")
    _column(picture, (), columns, source, "--image-column")
    with tempfile.TemporaryDirectory(prefix="promptopt-pictures-") as folder:
        yield [
            Found(
                name=key,
                path=path,
                label=_label(part.features[label], row[label], source),
                captions=_captions(row[text]) if text is not None else (),
                group=None if group is None or row[group] is None else str(row[group]),
                center=None if center is None or not row[center] else str(row[center]),
            )
            for name, part in rows
            for number, row in enumerate(part)
            for key, path in [_file(row[picture], Path(folder), f"{name}-{number:06d}", source)]
        ]


def _rows(source: str, split: str | None) -> list[tuple[str, Any]]:
    try:
        import datasets
    except ImportError:
        raise DatasetError(
            f"{source}: reading it needs the package datasets, which is not installed; "
            "pip install 'promptopt[datasets]', or use 'promptopt data prepare folders'"
        ) from None
    datasets.disable_progress_bars()
    if source.startswith(PREFIX):
        address = HubAddress.parse(source, error=DatasetError)
        with downloading(address, error=DatasetError, instead="a local folder"):
            found = datasets.load_dataset(address.repository, revision=address.revision)
    else:
        if not Path(source).is_dir():
            raise DatasetError(f"{source}: no such folder; give an imagefolder, or hf:owner/name")
        try:
            found = datasets.load_dataset("imagefolder", data_dir=source)
        except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
            raise DatasetError(
                f"{source}: datasets cannot read it as an imagefolder ({str(error).splitlines()[0]}); "
                "check what is in it"
            ) from error
    if split is not None and split not in found:
        raise DatasetError(
            f"{source}: there is no split {split!r}, only {', '.join(found)}; name one of them"
        )
    names = [split] if split is not None else list(found)
    image = datasets.Image(decode=False)
    parts = []
    for name in names:
        part = found[name]
        for column, kind in part.features.items():
            if isinstance(kind, datasets.Image):
                part = part.cast_column(column, image)
        parts.append((str(name), part))
    return parts


def _image_column(features: Any, source: str) -> str:
    import datasets

    names = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    if not names:
        raise DatasetError(
            f"{source}: no column holds images; it has {', '.join(features)}; name one with --image-column"
        )
    return str(names[0])


def _column(
    given: str | None, usual: tuple[str, ...], columns: list[str], source: str, option: str
) -> str | None:
    if given is None:
        return next((name for name in usual if name in columns), None)
    if given not in columns:
        raise DatasetError(f"{option}: {source} has no column {given!r}, only {', '.join(columns)}")
    return given


def _label(kind: Any, value: Any, source: str) -> str:
    if value is None or (isinstance(value, int) and value < 0):
        raise DatasetError(
            f"{source}: an image has no class; leave it out, or take a split where all have one"
        )
    return str(kind.int2str(value) if hasattr(kind, "int2str") else value)


def _captions(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(str(one).strip() for one in values if one is not None and str(one).strip()))


def _file(value: Any, folder: Path, name: str, source: str) -> tuple[str, Path]:
    """The name and the file of a picture; its bytes, as they are in the set, where it has none of its own."""
    own = Path(value["path"] or "")
    if value["bytes"] is None:
        below = own.is_relative_to(Path(source).resolve())
        return (own.relative_to(Path(source).resolve()).as_posix() if below else f"{name}{own.suffix}"), own
    path = folder / f"{name}{own.suffix or _end(value['bytes'])}"
    path.write_bytes(value["bytes"])
    return path.name, path


def _end(content: bytes) -> str:
    """A broken picture gets an ending too: the preparation says so and leaves it out."""
    return _ENDS.get(format_of(content) or "", ".img")
