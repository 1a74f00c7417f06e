"""PNG and TIFF files written byte by byte, with kinds of pixels that Pillow does not write."""

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

SHORT, LONG = 3, 4
_SIZES = {1: "B", 2: "B", SHORT: "H", LONG: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d"}


def turned(pixels: NDArray, orientation: int) -> NDArray:
    """What a viewer shows of stored (height, width, ...) pixels, by EXIF's definition of the tag."""
    return {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p, 1),
    }[orientation](pixels)


def exif(orientation: int) -> bytes:
    return exif_entry(0x0112, SHORT, 1, struct.pack("<H", orientation))


def exif_entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    """EXIF with one entry of any type; `value` longer than four bytes stands after the directory."""
    inside = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", 26)
    outside = b"" if len(value) <= 4 else value
    return struct.pack("<2sHIHHHI4sI", b"II", 42, 8, 1, tag, kind, count, inside, 0) + outside


def png(pixels: NDArray, *, kind: int, orientation: int = 1, chunks: bytes = b"", tags: bytes = b"") -> bytes:
    """A PNG of uint8 or uint16 pixels (height, width[, channels]); `kind` is its color type."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)
    if not tags and orientation != 1:
        tags = exif(orientation)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8 * pixels.dtype.itemsize, kind, 0, 0, 0)),
            chunks,
            chunk(b"eXIf", tags) if tags else b"",
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def tiff(
    pixels: NDArray,
    *,
    orientation: int = 1,
    photometric: int | None = None,
    more: Mapping[int, tuple[int, Sequence[int | float]]] | None = None,
) -> bytes:
    """An uncompressed little-endian TIFF of (height, width[, channels]) numbers; `more` are further tags."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    tags: dict[int, tuple[int, Sequence[int | float]]] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [8 * pixels.dtype.itemsize] * channels),
        259: (SHORT, [1]),
        262: (SHORT, [photometric if photometric is not None else 1 if channels == 1 else 2]),
        273: (LONG, [0]),  # where the data begin, known at the end
        274: (SHORT, [orientation]),
        277: (SHORT, [channels]),
        278: (LONG, [height]),
        279: (LONG, [len(data)]),
        339: (SHORT, [{"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]] * channels),
        **(more or {}),
    }
    begin = 8 + 2 + 12 * len(tags) + 4
    outside = b""
    values = {tag: struct.pack(f"<{len(v)}{_SIZES[kind]}", *v) for tag, (kind, v) in tags.items()}
    start = begin + sum(len(value) for value in values.values() if len(value) > 4)
    values[273] = struct.pack("<I", start)
    directory = struct.pack("<H", len(tags))
    for tag in sorted(tags):
        kind, content = tags[tag]
        value = values[tag]
        if len(value) > 4:
            place = struct.pack("<I", begin + len(outside))
            outside += value
        else:
            place = value.ljust(4, b"\0")
        directory += struct.pack("<HHI4s", tag, kind, len(content), place)
    return b"II*\0" + struct.pack("<I", 8) + directory + b"\0" * 4 + outside + data
