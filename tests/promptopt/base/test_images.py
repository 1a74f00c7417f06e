"""The reader of images against numpy: kinds of pixels by turns, odd EXIF, and files that are refused."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image

from promptopt.base.errors import PromptoptError
from promptopt.base.images import ImageFileError, load_image, read_image, to_rgb
from tests.promptopt.base.image_files import chunk, exif, exif_entry, png, tiff, turned

RNG = np.random.default_rng(5)
GRAY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
COLOR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)
TWELVE = RNG.integers(0, 4096, (6, 9), dtype=np.uint16)
UNIT = RNG.random((6, 9)).astype(np.float32)
DEEP_COLOR = RNG.integers(0, 65536, (6, 9, 3), dtype=np.uint16)
PALETTE = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
DEEP[0, 0] = 65535
TWELVE[0, 0] = 4095


def scaled(values: NDArray, largest: float) -> NDArray:
    return np.floor(values.astype(np.float64) * 255 / largest + 0.5)


def on_black(colors: NDArray) -> NDArray:
    return np.floor(colors.astype(np.float64) * ALPHA.reshape(*ALPHA.shape, 1) / 255 + 0.5)


def saved(image: Image.Image, kind: str, **options) -> Callable[[int], bytes]:
    def write(orientation: int) -> bytes:
        stream = io.BytesIO()
        tags = {} if orientation == 1 else {"exif": exif(orientation)}
        if kind == "JPEG" and tags:
            tags = {"exif": b"Exif\0\0" + tags["exif"]}
        image.save(stream, format=kind, **tags, **options)
        return stream.getvalue()

    return write


def stacked(*channels: NDArray) -> NDArray:
    return np.dstack(channels)


def palette() -> Image.Image:
    image = Image.frombytes("P", (9, 6), GRAY.tobytes())
    image.putpalette(PALETTE.tobytes())
    return image


KINDS: dict[str, tuple[Callable[[int], bytes], NDArray]] = {
    "rgb.png": (lambda o: png(COLOR, kind=2, orientation=o), COLOR),
    "gray.png": (lambda o: png(GRAY, kind=0, orientation=o), GRAY),
    "gray16.png": (lambda o: png(DEEP, kind=0, orientation=o), scaled(DEEP, 65535)),
    "gray12in16.png": (lambda o: png(TWELVE, kind=0, orientation=o), scaled(TWELVE, 4095)),
    "gray8in16.png": (lambda o: png(GRAY.astype(np.uint16), kind=0, orientation=o), GRAY),
    "rgb16.png": (lambda o: png(DEEP_COLOR, kind=2, orientation=o), DEEP_COLOR >> 8),
    "rgba.png": (lambda o: png(stacked(COLOR, ALPHA), kind=6, orientation=o), on_black(COLOR)),
    "gray-alpha.png": (lambda o: png(stacked(GRAY, ALPHA), kind=4, orientation=o), on_black(stacked(GRAY))),
    "keyed.png": (
        lambda o: png(GRAY, kind=0, orientation=o, chunks=chunk(b"tRNS", struct.pack(">H", GRAY[1, 2]))),
        np.where(GRAY[1, 2] == GRAY, 0, GRAY),
    ),
    "keyed16.png": (
        lambda o: png(DEEP, kind=0, orientation=o, chunks=chunk(b"tRNS", struct.pack(">H", DEEP[1, 2]))),
        np.where(DEEP[1, 2] == DEEP, 0, scaled(DEEP, 65535)),
    ),
    "palette.png": (saved(palette(), "PNG"), PALETTE[GRAY]),
    "palette-alpha.png": (
        saved(palette(), "PNG", transparency=bytes(range(256))),
        np.floor(PALETTE[GRAY] * (GRAY[..., None] / 255.0) + 0.5),
    ),
    "two.png": (saved(Image.fromarray(GRAY > 99), "PNG"), np.where(GRAY > 99, 255, 0)),
    "rgb.webp": (saved(Image.fromarray(COLOR), "WEBP", lossless=True), COLOR),
    "rgba.webp": (
        saved(Image.fromarray(stacked(COLOR, ALPHA)), "WEBP", lossless=True, exact=True),
        on_black(COLOR),
    ),
    "rgb.tif": (lambda o: tiff(COLOR, orientation=o), COLOR),
    "gray.tif": (lambda o: tiff(GRAY, orientation=o), GRAY),
    "rgba.tif": (
        lambda o: tiff(stacked(COLOR, ALPHA), orientation=o, more={338: (3, [2])}),
        on_black(COLOR),
    ),
    "gray16.tif": (lambda o: tiff(DEEP, orientation=o), scaled(DEEP, 65535)),
    "gray12in16.tif": (lambda o: tiff(TWELVE, orientation=o), scaled(TWELVE, 4095)),
    "white16.tif": (lambda o: tiff(DEEP, photometric=0, orientation=o), 255 - scaled(DEEP, 65535)),
    "signed12.tif": (lambda o: tiff(TWELVE.astype(np.int16), orientation=o), scaled(TWELVE, 4095)),
    "whole32.tif": (lambda o: tiff(DEEP.astype(np.int32), orientation=o), scaled(DEEP, 65535)),
    "float.tif": (lambda o: tiff(UNIT, orientation=o), np.rint(UNIT * 255.0)),
    "rgb16.tif": (lambda o: tiff(DEEP_COLOR, orientation=o), DEEP_COLOR >> 8),
}


def as_rgb(expected: NDArray) -> NDArray:
    return (
        np.repeat(expected[..., None], 3, axis=2)
        if expected.ndim == 2
        else np.broadcast_to(expected, (*expected.shape[:2], 3))
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_pixels_in_every_turn(tmp_path: Path, name: str, orientation: int) -> None:
    write, expected = KINDS[name]
    (tmp_path / name).write_bytes(write(orientation))
    image = read_image(tmp_path / name)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), turned(as_rgb(expected), orientation))
    assert np.array_equal(np.asarray(to_rgb(image)), np.asarray(image))  # never turned twice


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg(tmp_path: Path, orientation: int) -> None:
    quarters = np.kron(np.array([[40, 90, 140], [190, 240, 10]], np.uint8), np.ones((16, 16), np.uint8))
    (tmp_path / "a.jpg").write_bytes(saved(Image.fromarray(quarters), "JPEG", quality=95)(orientation))
    shown = np.asarray(read_image(tmp_path / "a.jpg")).astype(int)
    assert np.abs(shown - as_rgb(turned(quarters.astype(int), orientation))).max() <= 4


def test_cmyk(tmp_path: Path) -> None:
    inks = RNG.integers(0, 256, (6, 9, 4), dtype=np.uint8)
    Image.frombytes("CMYK", (9, 6), inks.tobytes()).save(tmp_path / "a.tif")
    light = 255.0 - inks
    expected = light[..., :3] * light[..., 3:] / 255
    assert np.abs(np.asarray(read_image(tmp_path / "a.tif")) - expected).max() <= 1


@pytest.mark.parametrize("end", ["png", "jpg", "webp", "tif", "bmp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_pictures_are_read_as_pillow_reads_them(tmp_path: Path, end: str, mode: str) -> None:
    path = tmp_path / f"a.{end}"
    Image.fromarray(COLOR).convert(mode).save(path)
    with Image.open(path) as image:
        assert read_image(path).tobytes() == image.convert("RGB").tobytes()


ODD_EXIF = {
    "text": exif_entry(0x0112, 2, 2, b"6\0"),
    "bytes": exif_entry(0x0112, 7, 4, b"\6\0\0\0"),
    "fraction by zero": exif_entry(0x0112, 5, 1, struct.pack("<II", 6, 0)),
    "not a number": exif_entry(0x0112, 12, 1, struct.pack("<d", float("nan"))),
    "zero": exif(0),
    "nine": exif(9),
    "unknown type": exif_entry(0x0112, 99, 1, b"\6"),
    "value far away": exif_entry(0x0112, 12, 70000, b"\6\0\0\0"),
    "cut": exif(6)[:15],
    "no directory": b"II*\0\xff\xff\xff\x7f",
    "rubbish": b"rubbish" * 3,
    "empty": b"Exif\0\0",
    "resolution as text": exif_entry(0x011A, 2, 6, b"seven\0"),
    "resolution unit as bytes": exif_entry(0x0128, 7, 1, b"\2"),
    "camera as number": exif_entry(0x010F, 12, 1, struct.pack("<d", 1e300)),
    "pointer as text": exif_entry(0x8769, 2, 6, b"where\0"),
}


@pytest.mark.parametrize("end", ["png", "jpg", "webp"])
@pytest.mark.parametrize("name", ODD_EXIF)
def test_odd_exif_leaves_a_picture_upright(tmp_path: Path, name: str, end: str) -> None:
    path, tags = tmp_path / f"a.{end}", ODD_EXIF[name]
    if end == "png":
        path.write_bytes(png(COLOR, kind=2, tags=tags))
    else:
        header = b"" if end == "webp" or tags.startswith(b"Exif") else b"Exif\0\0"
        Image.fromarray(COLOR).save(path, exif=header + tags)
    plain = tmp_path / f"plain.{end}"
    Image.fromarray(COLOR).save(plain)
    assert read_image(path).tobytes() == read_image(plain).tobytes()


@pytest.mark.parametrize("value", [(2, [54]), (12, [6.5]), (3, [0])])
def test_a_tiff_with_an_odd_orientation_is_upright(tmp_path: Path, value: tuple) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(COLOR, more={274: value}))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.tif")), COLOR)


def animation(kind: str, **options) -> bytes:
    stream = io.BytesIO()
    first, second = Image.fromarray(COLOR), Image.fromarray(255 - COLOR)
    first.save(stream, format=kind, save_all=True, append_images=[second], **options)
    return stream.getvalue()


def whole(kind: str, *, side: int = 40) -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return saved(Image.fromarray(noise), kind)(1)


BAD: dict[str, tuple[bytes, str]] = {
    "nothing.png": (b"", "empty"),
    "words.jpg": (b"this is no picture", "broken, or of an unknown format"),
    "cut.png": (whole("PNG")[:400], "truncated"),
    "cut.jpg": (whole("JPEG")[:700], "truncated"),
    "cut.webp": (whole("WEBP")[:400], "not a readable image"),
    "cut.tif": (whole("TIFF")[:-900], "not a readable image"),
    "cut.bmp": (whole("BMP")[:-900], "truncated"),
    "header.png": (whole("PNG")[:20], "not a readable image"),
    "flipped.png": (whole("PNG")[:99] + b"\0\1\2" + whole("PNG")[102:], "not a readable image"),
    "bomb.png": (
        png(COLOR, kind=2).replace(struct.pack(">II", 9, 6), struct.pack(">II", 90_000, 90_000), 1),
        "not a readable image",
    ),
    "gif.png": (saved(Image.fromarray(COLOR), "GIF")(1), "GIF"),
    "avif.png": (b"\0\0\0\x20ftypavif" + bytes(40), "AVIF"),
    "heic.jpg": (b"\0\0\0\x20ftypheic" + bytes(40), "HEIF"),
    "eps.png": (saved(Image.fromarray(COLOR), "EPS")(1), "PostScript"),
    "dicom.tif": (bytes(128) + b"DICM" + bytes(40), "DICOM"),
    "page.jpg": (b"<!DOCTYPE html>", "HTML"),
    "netpbm.png": (saved(Image.fromarray(COLOR), "PPM")(1), "Netpbm"),
    "moving.png": (animation("PNG"), "animated or of several pages: it holds 2"),
    "moving.webp": (animation("WEBP"), "animated or of several pages: it holds 2"),
    "pages.tif": (animation("TIFF"), "animated or of several pages: it holds 2"),
    "hounsfield.tif": (tiff(TWELVE.astype(np.int16) - 1000), r"values from -\d+ to"),
    "large.tif": (tiff(DEEP.astype(np.int32) * 9), "0 to 65535 is read"),
    "float255.tif": (tiff(UNIT * 255), "floating-point values from .* 0 to 1 is read"),
    "nan.tif": (tiff(np.where(UNIT > 0.5, np.float32("nan"), UNIT)), "floating-point values from nan"),
    "rgb12in16.png": (png(DEEP_COLOR >> 4, kind=2), "color of 16 bits whose values use at most 12"),
    "rgb12in16.tif": (tiff(DEEP_COLOR >> 4), "color of 16 bits whose values use at most 12"),
    "lab.tif": (saved(Image.frombytes("LAB", (9, 6), COLOR.tobytes()), "TIFF")(1), "LAB"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_named_with_a_remedy(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started to decode a picture")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    content, reason = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageFileError, match=reason) as caught:
        read_image(path)
    assert caught.value.file == str(path)
    assert caught.value.remedy
    assert str(path) not in caught.value.problem  # the same on every computer

    class OwnError(PromptoptError):
        pass

    with pytest.raises(OwnError, match=reason):
        read_image(path, error=OwnError)
    with pytest.raises(ImageFileError, match=reason):
        read_image(tmp_path / "elsewhere.png", content=content)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match=r"none\.png: cannot be read \(No such file.*Check the path"):
        read_image(tmp_path / "none.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageFileError, match=r"folder\.png: cannot be read"):
        read_image(tmp_path / "folder.png")


def test_previews_of_a_camera_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "camera.jpg"
    first, preview = Image.fromarray(COLOR), Image.fromarray(255 - COLOR[:3])
    first.save(path, format="MPO", save_all=True, append_images=[preview], quality=95)
    first.save(tmp_path / "alone.jpg", quality=95)
    assert read_image(path).tobytes() == read_image(tmp_path / "alone.jpg").tobytes()


def test_a_loaded_image_keeps_its_channels_and_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(stacked(COLOR, ALPHA), kind=6, chunks=chunk(b"tEXt", b"synthetic\0true")))
    image = load_image(path)
    assert (image.mode, image.info["synthetic"]) == ("RGBA", "true")
    assert to_rgb(image).tobytes() == read_image(path).tobytes()
