"""Every room reads an odd file as it reads the plain picture that the file shows, and names a bad one."""

import ast
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from evaluation import FeatureStore
from evaluation.challenge import gi2024
from evaluation.classifier.judge import to_pixels
from evaluation.classifier.network import read_pixels
from evaluation.classifier.pictures import Pictures as ClassifierPictures
from evaluation.metrics.memorization import Pair
from generators.training.images import Pictures as TrainingPictures
from generators.training.images import read_square
from promptopt.base.errors import PromptoptError
from promptopt.base.images import READER, read_image
from promptopt.challenge.check.findings import Findings
from promptopt.challenge.check.pictures import check_against_real, read_picture
from promptopt.cli.main import main
from promptopt.formatting.copies import pairs_sheet
from promptopt.formatting.pictures import png_bytes
from promptopt.review.sheet import _square
from promptopt.study.report.pictures import embed_file
from studies.dataset import image_fault
from studies.medvqa_gi import prepare_2024
from tests.promptopt.base.image_files import exif, png, tiff, turned
from tests.promptopt.base.test_images import BAD

ROOT = Path(__file__).parents[3]


def smooth(seed: int, channels: int) -> NDArray:
    """(48, 64, channels) uint8 with texture of the size that hashes look at."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, channels), dtype=np.uint8)
    bands = [Image.fromarray(noise[..., band]) for band in range(channels)]
    return np.dstack([np.asarray(band.resize((64, 48), Image.Resampling.BICUBIC)) for band in bands])


COLOR, GRAY, ALPHA = smooth(0, 3), smooth(1, 1)[..., 0], smooth(2, 1)[..., 0]
TWELVE = ((GRAY.astype(np.int64) * 4095 + 127) // 255).astype(np.uint16)
UNIT = GRAY.astype(np.float32) / 255


def on_black() -> NDArray:
    return np.floor(COLOR * (ALPHA[..., None] / 255.0) + 0.5).astype(np.uint8)


def three(gray: NDArray) -> NDArray:
    return np.repeat(gray[..., None], 3, axis=2)


ODD: dict[str, tuple[bytes, NDArray]] = {
    **{f"turned {o}.png": (png(COLOR, kind=2, orientation=o), turned(COLOR, o)) for o in range(2, 9)},
    "turned gray.tif": (tiff(GRAY, orientation=6), three(turned(GRAY, 6))),
    "16-bit.png": (png(GRAY.astype(np.uint16) * 257, kind=0), three(GRAY)),
    "12-bit turned.png": (png(TWELVE, kind=0, orientation=8), three(turned(GRAY, 8))),
    "float.tif": (tiff(UNIT), three(GRAY)),
    "alpha.png": (png(np.dstack((COLOR, ALPHA)), kind=6), on_black()),
}


class Seen:
    """An encoder that keeps what it is shown."""

    uri, dim, fingerprint = "seen", 1, "e" * 64

    def __init__(self) -> None:
        self.shown: list[NDArray] = []

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray:
        assert {image.mode for image in images} == {"RGB"}
        self.shown += [np.asarray(image) for image in images]
        return np.zeros((len(images), 1), dtype=np.float32)


def by_feature_store(path: Path) -> object:
    encoder = Seen()
    FeatureStore(path.parent / "features").features(encoder, [path])
    return encoder.shown[0]


def by_copies_sheet(path: Path) -> object:
    return np.asarray(pairs_sheet([Pair(0, 0, 1.0, 1.0, 1.0, False)], [path], [path]))


def by_data_sheet(path: Path) -> object:
    folder = prepared(path)
    result = run("data", "sheet", folder, folder / "sheet.png", "--tile", 64)
    if result.exit_code:
        raise PromptoptError(result.stderr)
    return (folder / "sheet.png").read_bytes()


def by_check(path: Path) -> object:
    if (fault := image_fault(path)) is not None:
        raise PromptoptError(fault, file=path)
    picture, _, pixels = read_picture(path, path)
    return picture.digest, picture.size, pixels.tobytes()


ROOMS: dict[str, Callable[[Path], object]] = {
    "features": by_feature_store,
    "classify on pixels": lambda path: read_pixels([path], 32),
    "train clip and judge": lambda path: (
        ClassifierPictures([path], decode=lambda image: to_pixels(image, 32)).batch([0]).numpy()
    ),
    "train sd": lambda path: TrainingPictures((path,), 32).batch([0]).numpy(),
    "train sd, one picture": lambda path: read_square(path, 32),
    "data check and export check": by_check,
    "copies": by_copies_sheet,
    "data sheet": by_data_sheet,
    "review": lambda path: png_bytes(_square(path)),
    "report": embed_file,
    "the corrected score of 2024": lambda path: gi2024._read(path, corrected=True),
}


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def prepared(*paths: Path) -> Path:
    """A prepared data set of these pictures, each a group in a pool of its own."""
    folder = paths[0].parent / "set"
    folder.mkdir(exist_ok=True)
    rows = []
    for path, pool in zip(paths, ("reference", "test", "validation"), strict=False):
        (folder / path.name).write_bytes(path.read_bytes())
        rows.append(
            {"file_name": path.name, "text": "a polyp", "category": "polyps", "label": "polyp"}
            | {"center": "north", "group": path.name, "pool": pool}
        )
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("room", ROOMS)
def test_every_room_sees_what_the_file_shows(tmp_path: Path, room: str, name: str) -> None:
    content, shown = ODD[name]
    (tmp_path / "odd").mkdir()
    (tmp_path / "plain").mkdir()
    odd, plain = tmp_path / "odd" / name, tmp_path / "plain" / "plain.png"
    odd.write_bytes(content)
    plain.write_bytes(png(np.ascontiguousarray(shown), kind=2))
    read = ROOMS[room]
    np.testing.assert_equal(read(odd), read(plain))


@pytest.mark.parametrize(
    "name", ["nothing.png", "cut.jpg", "bomb.png", "gif.png", "eps.png", "hounsfield.tif"]
)
@pytest.mark.parametrize("room", ROOMS)
def test_every_room_names_a_file_that_it_cannot_read(tmp_path: Path, room: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BAD[name][0])
    with pytest.raises(PromptoptError, match=name) as caught:
        ROOMS[room](path)
    assert "not a readable image" in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        ("data", "check", "SET"),
        ("data", "sheet", "SET", "OUT/sheet.png"),
        ("evaluate", "SET", "IMAGES", "--encoder", "thumbnail", "--store", "OUT/store"),
        ("classify", "SET", "SET", "--encoder", "thumbnail", "--store", "OUT/store", "--out", "OUT/classify"),
        ("classify", "SET", "SET", "--network", "small", "--steps", "1", "--out", "OUT/classify"),
    ],
    ids=lambda command: " ".join(command),
)
@pytest.mark.parametrize("name", ["nothing.png", "bomb.png", "gif.png"])
def test_commands_end_in_a_sentence(tmp_path: Path, command: tuple[str, ...], name: str) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        (images / f"{number}.png").write_bytes(png(smooth(number, 3), kind=2))
    bad = images / name
    bad.write_bytes(BAD[name][0])
    places = {"SET": prepared(bad, images / "0.png", images / "1.png"), "IMAGES": images}
    words = [str(places.get(word, word.replace("OUT", str(tmp_path)))) for word in command]
    result = run(*words)
    assert result.exit_code == 2, (result.output, result.exception)
    assert name in result.stderr
    assert "Traceback" not in result.output


def test_a_picture_and_its_turned_twin_are_prepared_into_one_pool(tmp_path: Path) -> None:
    images = tmp_path / "source" / "images"
    images.mkdir(parents=True)
    rows = ["Prompt;Filename"]
    for number in range(12):
        pixels = smooth(100 + number, 3)
        for orientation in (1, 6):
            stored = pixels if orientation == 1 else np.rot90(pixels, 1)  # 6 is turned back when shown
            name = f"{number}-{orientation}.png"
            (images / name).write_bytes(png(np.ascontiguousarray(stored), kind=2, orientation=orientation))
            rows.append(f"Generate an image with 1 polyp.;{name}")
    (tmp_path / "source" / "prompt-gt.csv").write_text("\n".join(rows) + "\n")
    prepare_2024(tmp_path / "source", tmp_path / "out")
    lines = map(json.loads, (tmp_path / "out" / "metadata.jsonl").read_text().splitlines())
    groups = {Path(row["file_name"]).stem: row["group"] for row in lines}
    assert len(set(groups.values())) == 12
    assert all(groups[f"{number}-1"] == groups[f"{number}-6"] for number in range(12))


def test_an_upright_copy_of_a_turned_real_image_is_found(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(png(COLOR, kind=2, orientation=6))
    (tmp_path / "made.png").write_bytes(png(np.ascontiguousarray(turned(COLOR, 6)), kind=2))
    made, _, _ = read_picture(tmp_path / "made.png", Path("made.png"))
    findings = Findings()
    check_against_real([made], [tmp_path / "real.png"], findings)
    assert findings.errors == 1


def test_real_images_that_cannot_be_compared_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(png(COLOR, kind=2))
    (tmp_path / "gif.png").write_bytes(BAD["gif.png"][0])
    made, _, _ = read_picture(tmp_path / "real.png", Path("made.png"))
    findings = Findings()
    assert check_against_real([made], [tmp_path / "gif.png", tmp_path / "real.png"], findings) == 1
    assert any(found.level == "warning" and "GIF" in found.problem for found in findings)


def test_features_of_an_older_reader_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(ODD["alpha.png"][0])
    encoder = Seen()
    with monkeypatch.context() as patch:
        patch.setattr("evaluation.features.feature_store.READER", 0)
        FeatureStore(tmp_path / "features").features(encoder, [path])
    before = len(encoder.shown)
    FeatureStore(tmp_path / "features").features(encoder, [path])
    assert len(encoder.shown) == before + 1


def test_latents_of_another_reader_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(ODD["alpha.png"][0])
    before = TrainingPictures((path,), 32).keys
    assert TrainingPictures((path,), 32).keys == before
    monkeypatch.setattr("generators.training.images.READER", READER + 1)
    assert TrainingPictures((path,), 32).keys != before


@pytest.mark.slow
def test_only_the_reader_opens_image_files() -> None:
    callers = set()
    for package in ("promptopt", "generators", "evaluation", "studies"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Image.open", "imread")):
                    callers.add(file.relative_to(ROOT).as_posix())
    assert callers == {"promptopt/base/images.py"}


def test_stored_bytes_are_read_by_the_same_rules(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(COLOR).save(stream, format="PNG", exif=exif(3))
    shown = read_image(tmp_path / "not there.png", content=stream.getvalue())
    np.testing.assert_array_equal(np.asarray(shown), turned(COLOR, 3))
