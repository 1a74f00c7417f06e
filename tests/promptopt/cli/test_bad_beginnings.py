"""Ten ways to begin badly: each ends in one message that names what is wrong and says what to do."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from promptopt.cli.main import main
from studies.phantom import write_phantom
from tests.promptopt.fakes import category, write_squares
from tests.studies.folders.pictures import write_folders

PREPARE = ("data", "prepare", "folders", "photos", "data")


@dataclass(frozen=True)
class Beginning:
    """What a user has, what they type, and what they read: what is wrong (with its name), and what to do."""

    have: Callable[[pytest.MonkeyPatch], object]
    type: tuple[str, ...]
    wrong: str
    remedy: str


def one_class(_: pytest.MonkeyPatch) -> None:
    write_folders(Path("photos"), ("polyp",), each=12)


def three_images(_: pytest.MonkeyPatch) -> None:
    write_folders(Path("photos"), ("polyp", "normal"), each=3)


def other_language(_: pytest.MonkeyPatch) -> None:
    write_folders(Path("photos"), each=12)
    for file in Path("photos").rglob("*.png"):
        file.with_suffix(".txt").write_text("ein Bild mit einem Polyp")


def full_disk(patch: pytest.MonkeyPatch) -> None:
    write_folders(Path("photos"), each=12)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/metadata.jsonl")

    patch.setattr("promptopt.base.files.os.link", full)


def photographs(_: pytest.MonkeyPatch, **changes: object) -> None:
    write_squares(Path("data"), each=8)
    content = {"name": "own", "aim": "single", "category": category(), "data": "data"}
    Path("own.yaml").write_text(yaml.safe_dump(content | changes))


def drawings(_: pytest.MonkeyPatch) -> None:
    write_phantom("data", images=8, test=4, hospital="coast")
    content = {"name": "own", "category": "polyps", "positives": "polyp", "data": "data"}
    Path("own.yaml").write_text(yaml.safe_dump(content))


def pickle(patch: pytest.MonkeyPatch) -> None:
    drawings(patch)
    Path("model.ckpt").write_bytes(b"a pickle")


def sdxl(_: pytest.MonkeyPatch) -> None:
    write_squares(Path("data"), each=2)
    index: dict[str, object] = {"_class_name": "StableDiffusionXLPipeline"}
    for name in ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae"):
        index[name] = ["diffusers", "Any"]
    Path("sdxl").mkdir()
    Path("sdxl/model_index.json").write_text(json.dumps(index))


def typo(patch: pytest.MonkeyPatch) -> None:
    photographs(patch, serach={"trials": 4})


BEGINNINGS = {
    "wrong folder": Beginning(lambda _: None, PREPARE, "photos: no such folder", "check the path"),
    "one class": Beginning(one_class, PREPARE, "only the class 'polyp'", "put images of at least one other"),
    "three images": Beginning(three_images, PREPARE, "'normal' has 3, 'polyp' has 3", "add images"),
    "other language": Beginning(other_language, PREPARE, "seems to be German", "translate the captions"),
    "no space": Beginning(full_disk, PREPARE, "is full", "Free some space"),
    "no GPU": Beginning(
        drawings,
        ("study", "run", "own.yaml", "--device", "cuda"),
        "'cuda' is not there: this machine has 0 CUDA devices",
        "Take cpu, or auto",
    ),
    "photographs": Beginning(
        photographs,
        ("study", "run", "own.yaml"),
        "generator.uri and encoder: embedded was trained on the phantom",
        "Fine-tune it on them (promptopt train sd --init embedded",
    ),
    "pickle": Beginning(
        pickle,
        ("study", "run", "own.yaml", "--set", "generator.uri=model.ckpt"),
        "model.ckpt: is a pickle",
        "take the .safetensors version",
    ),
    "SDXL": Beginning(
        sdxl,
        (
            "train",
            "sd",
            "--data",
            "data",
            "--out",
            "sd",
            "--recipe",
            "tiny",
            "--init",
            "sdxl",
            "--encoder",
            "none",
        ),
        "sdxl: is an SDXL model",
        "Take --recipe sdxl-lora",
    ),
    "typo": Beginning(
        typo,
        ("study", "run", "own.yaml"),
        "serach: unknown key",
        "did you mean 'search'",
    ),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_bad_beginning_ends_in_one_message_that_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beginning = BEGINNINGS[name]
    monkeypatch.chdir(tmp_path)
    if name == "no GPU":
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    beginning.have(monkeypatch)
    before = {path.name for path in tmp_path.iterdir()}
    done = CliRunner().invoke(main, list(beginning.type))
    said = " ".join(done.output.split())
    assert done.exit_code == 2, done.output
    assert said.count("Error:") == 1
    assert beginning.wrong in said
    assert beginning.remedy in said
    assert "Traceback" not in said
    left = {path.name for path in tmp_path.iterdir()} - before
    assert left <= {"store", "runs", "sd"}, left  # no half-made result
    assert not list(tmp_path.rglob("store/images/*"))
