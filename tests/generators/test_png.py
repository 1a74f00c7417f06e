"""A file's texts are replaced without decoding it: the bytes are those that Pillow writes for its pixels."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from generators.png import encode_png, with_texts, write_png
from tests.generators.fake import FakeGenerator

TEXTS = {"synthetic": "true", "Software": "promptopt 0.1.0", "provenance": '{"seed":3}'}


def picture(width: int, height: int, *, mode: str = "RGB") -> Image.Image:
    """Noise on a ramp: pixels that no filter of PNG makes vanish."""
    rng = np.random.default_rng([width, height])
    ramp = np.linspace(0, 200, width)[None, :, None] + rng.integers(0, 50, (height, width, 3))
    return Image.fromarray(ramp.astype(np.uint8)).convert(mode)


def saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (16, 24), (640, 512)])
@pytest.mark.parametrize("texts", [TEXTS, TEXTS | {"parameters": "ポリープ, naïve"}, {}])
def test_the_file_is_the_one_that_encoding_the_pixels_gives(
    size: tuple[int, int], texts: dict[str, str]
) -> None:
    image = picture(*size)
    request = FakeGenerator().request("un polype, naïve, ポリープ", 3)
    stored = encode_png(request, image)
    changed = with_texts(stored, texts)
    assert changed == write_png(image, texts)
    with Image.open(io.BytesIO(changed or b"")) as read:
        assert read.text == texts  # type: ignore[attr-defined]
        assert np.array_equal(np.asarray(read), np.asarray(image))
    if size == (640, 512):
        assert stored.count(b"IDAT") > 1  # pixels in several chunks
    assert with_texts(write_png(image, TEXTS), texts) == changed  # what was changed can be changed again


def test_a_file_that_was_not_written_here_is_left_to_be_decoded() -> None:
    image = picture(24, 16)
    ours = write_png(image, TEXTS)
    software = {"Software": "promptopt 0.1.0"}
    marked = b"tEXtSoftware\0promptopt"
    assert marked in ours
    others = {
        "another program's": saved(image),
        "the same settings, by another program": saved(image, compress_level=1, compress_type=zlib.Z_RLE),
        "packed harder": _signed(saved(image, compress_level=9)),
        "gray": _signed(saved(picture(24, 16, mode="L"), compress_level=1)),
        "transparent": _signed(saved(picture(24, 16, mode="RGBA"), compress_level=1)),
        "with a resolution": _signed(saved(image, compress_level=1, dpi=(72, 72))),
        "a JPEG": b"\xff\xd8" + marked + ours[2:],
        "cut": ours[:-20],
        "with a tail": ours + b"x",
        "empty": b"",
    }
    assert with_texts(_signed(saved(image, compress_level=1)), software) is not None  # the marks tell
    for name, content in others.items():
        assert with_texts(content, software) is None, name


def _signed(content: bytes) -> bytes:
    """With the text that says it is ours."""
    text = b"tEXtSoftware\0promptopt 0.1.0"
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    return content[:33] + chunk + content[33:]
