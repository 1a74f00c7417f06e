"""The one reader of image files: every command and every room sees the same pixels of a file.

- **Formats.** Only the decoders of PNG, JPEG, WebP, TIFF and BMP are ever opened, whatever a file is called;
  other formats are refused by name. So are animations and files of several pages. The further pictures that
  cameras put into a JPEG (previews) are passed over.
- **Turns.** The EXIF orientation is applied; one that cannot be read counts as upright.
- **Gray of more than 8 bits.** Whole numbers are scaled to 0..255 by the first of 255, 4095 (12 bits in use)
  and 65535 that no value exceeds, floating-point numbers in 0..1 by 1, and rounded. Anything else (negative,
  larger, NaN) is refused. Where a TIFF says that 0 is white, it is.
- **Color of 16 bits.** The high byte of each value is kept; a file whose values use at most 12 bits is
  refused, since it would turn black.
- **Transparency.** The picture is laid on black, the ground of endoscopic frames.
- **Colors.** Palette, gray, CMYK and YCbCr become RGB, without a color profile. Others (Lab) are refused.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from promptopt.base.errors import PromptoptError

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
READER = 1
"""Enters the key of whatever is computed from a file's pixels; one more where a rule changes them."""

_READ = "PNG, JPEG, WebP, TIFF and BMP are read"
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_LARGEST = (255, 4095, 65535)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURN_KEYS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
_OTHERS = (  # offset, first bytes, name
    (0, b"GIF8", "GIF"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyphe", "HEIF"),
    (4, b"ftypmi", "HEIF"),
    (0, b"\0\0\0\x0cjP", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"%!PS", "PostScript (EPS)"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (0, b"%PDF", "PDF"),
    (128, b"DICM", "DICOM"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "icon (ICO)"),
    (0, b"qoif", "QOI"),
    (0, b"DDS ", "DDS"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"PK\3\4", "ZIP"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML"),
    (0, b"<!DOCTYPE", "HTML"),
    (0, b"<html", "HTML"),
    *((0, b"P%d" % kind, "Netpbm") for kind in range(1, 8)),
)


class ImageFileError(PromptoptError, ValueError):
    """An image file that is missing, broken or of a kind that is not read."""


def read_image(
    path: str | os.PathLike[str],
    *,
    error: type[PromptoptError] = ImageFileError,
    content: bytes | None = None,
) -> Image.Image:
    """The picture in a file by the rules of this module: upright, RGB, 8 bits.

    Args:
        path: the file.
        error: the class to raise.
        content: the file's bytes, where they were read already.

    Raises:
        ImageFileError: it is missing, broken, too large or of a kind that is refused; or `error`.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> file = Path(tempfile.mkdtemp()) / "half.png"
        >>> Image.new("RGBA", (2, 1), (200, 100, 0, 128)).save(file)
        >>> image = read_image(file)
        >>> image.mode, image.getpixel((0, 0))
        ('RGB', (100, 50, 0))
    """
    with _naming(path, error, content):
        if content is not None:
            return to_rgb(_loaded(io.BytesIO(content)))
        return to_rgb(_load(path))


def load_image(path: str | os.PathLike[str], *, error: type[PromptoptError] = ImageFileError) -> Image.Image:
    """The picture as the file holds it, decoded to the last pixel, for who needs its texts or channels.

    `to_rgb` of it is what `read_image` gives. Raises as `read_image`.
    """
    with _naming(path, error):
        return _load(path)


def format_of(content: bytes) -> str | None:
    """Which of `FORMATS` the bytes of a file begin as; None for another."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.format
    except OSError:
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded picture by the rules of this module.

    Raises:
        ImageFileError: its values or colors are of a kind that is refused.
    """
    if image.mode in _DEEP:
        rgb = _scaled(image)
    elif image.mode not in _MODES:
        raise _refusal(f"colors of kind {image.mode}; gray, RGB, palette, CMYK and YCbCr are read")
    elif image.has_transparency_data:
        layered = image.convert("RGBA")
        black = Image.new("RGB", image.size)
        rgb = Image.composite(layered.convert("RGB"), black, layered.getchannel("A"))
    else:
        rgb = image.convert("RGB")
    turn = _turn(image)
    upright = rgb if turn is None else rgb.transpose(turn)
    for key in _TURN_KEYS:  # they would say that the picture is still to be turned
        upright.info.pop(key, None)
    return upright


def _load(path: str | os.PathLike[str]) -> Image.Image:
    # a stream, not the path: Pillow maps some named TIFFs into memory, and then turns them wrongly
    with Path(path).open("rb") as stream:
        return _loaded(stream)


def _loaded(stream: BinaryIO) -> Image.Image:
    with Image.open(stream, formats=FORMATS) as image:
        count = getattr(image, "n_frames", 1)
        if count > 1 and image.format != "MPO":  # a JPEG with the previews that cameras add
            raise _refusal(
                f"animated or of several pages: it holds {count} images",
                "Save the one that counts as a file of its own, or remove it.",
            )
        color16 = image.mode in ("RGB", "RGBA", "RGBX") and any(";16" in str(tile) for tile in image.tile)
        image.load()
    if color16 and max(high for _, high in image.convert("RGB").getextrema()) <= 4095 >> 8:  # type: ignore[misc]
        raise _refusal(
            "color of 16 bits whose values use at most 12",
            "Scale it to 8 bits first, or remove it.",
        )
    return image


def _scaled(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # not: a NaN is neither
            raise _refusal(
                f"floating-point values from {low:.4g} to {high:.4g}; 0 to 1 is read",
                "Scale it to 8 bits first, or remove it.",
            )
        levels = np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    else:
        if low < 0 or high > _LARGEST[-1]:
            raise _refusal(
                f"values from {low} to {high}; 0 to {_LARGEST[-1]} is read",
                "Choose a window and scale it to 8 bits first, or remove it.",
            )
        largest = next(limit for limit in _LARGEST if high <= limit)
        levels = ((values.astype(np.int64) * 255 + largest // 2) // largest).astype(np.uint8)
    tags = getattr(image, "tag_v2", {})
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # 0 is white; Pillow minds it for 8 bits only
        levels = 255 - levels
    if isinstance(key := image.info.get("transparency"), int):
        levels = np.where(values == key, np.uint8(0), levels)
    return Image.fromarray(levels).convert("RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    # what Pillow raises on EXIF that is damaged or of the wrong type
    except (SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, OSError, struct.error):
        return None


def _refusal(reason: str, remedy: str = "Convert it, or remove it.") -> ImageFileError:
    return ImageFileError(f"not a readable image ({reason})", remedy=remedy)


@contextmanager
def _naming(
    path: str | os.PathLike[str], error: type[PromptoptError], content: bytes | None = None
) -> Iterator[None]:
    """Every fault of a file as a sentence that names it."""
    remedy = "Replace it, or remove it."
    try:
        yield
    except ImageFileError as fault:
        raise error(fault.problem, file=path, remedy=fault.remedy) from fault
    except UnidentifiedImageError as fault:
        refusal = _unknown(content if content is not None else _head(path))
        raise error(refusal.problem, file=path, remedy=refusal.remedy) from fault
    except MemoryError:
        raise  # not the file's fault
    except Exception as fault:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        if isinstance(fault, OSError) and fault.errno is not None:
            remedy = "Check the path and its permissions."
            raise error(f"cannot be read ({fault.strerror})", file=path, remedy=remedy) from fault
        reason = str(fault).rstrip(".") or type(fault).__name__
        raise error(f"not a readable image ({reason})", file=path, remedy=remedy) from fault


def _head(path: str | os.PathLike[str]) -> bytes:
    with Path(path).open("rb") as stream:
        return stream.read(256)


def _unknown(head: bytes) -> ImageFileError:
    if not head:
        return _refusal("the file is empty", "Replace it, or remove it.")
    for offset, first, name in _OTHERS:
        if head[offset:].startswith(first):
            return _refusal(f"a {name} file; {_READ}")
    return _refusal(f"broken, or of an unknown format; {_READ}", "Replace it, or remove it.")
