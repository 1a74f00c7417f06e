"""`promptopt export check` finds what is wrong, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from promptopt.base.checksums import KEY, summed
from promptopt.challenge.check.findings import Findings
from promptopt.challenge.check.pictures import NEAR, check_against_real, check_pictures
from promptopt.challenge.check.tokens import check_lengths
from promptopt.challenge.submission.gi2024 import write_gi2024
from promptopt.cli.main import main
from promptopt.run.finished import read_runs
from tests.generators.fake import FakeGenerator
from tests.promptopt.export.runs import prompt_list, write_run, write_three

ONE = "polyps/images/prompt0001_img0001.png"
JSON, LIST, OWN = "polyps/prompts.json", "polyps/images.csv", "submission.json"


def check(*words: object) -> tuple[int, list[str]]:
    """Exit code and lines."""
    done = CliRunner().invoke(main, ["export", "check", *map(str, words)])
    return done.exit_code, done.output.splitlines()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission with nothing wrong, and a synthesis part."""
    root = tmp_path_factory.mktemp("sound")
    (root / "p.txt").write_text("a polyp\na snare\n")
    fake = FakeGenerator()
    fake.fingerprint = prompt_list().generator.fingerprint
    write_gi2024(
        read_runs(write_three(root)),
        root / "out",
        store=root / "store",
        load=lambda _: fake,
        examples=2,
        test_prompts=root / "p.txt",
        per_prompt=2,
    )
    return root / "out"


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy to break, of files of its own."""
    return shutil.copytree(sound, tmp_path / "sub")


def _picture(path: Path, pixels: np.ndarray, *, label: bool = True) -> None:
    text = PngInfo()
    if label:
        text.add_text("synthetic", "true")
    Image.fromarray(pixels.astype(np.uint8)).save(path, format="PNG", pnginfo=text)


def _noise(seed: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(float)


def test_a_sound_submission_has_one_warning(folder: Path) -> None:
    code, lines = check(folder)
    assert code == 0
    assert len(lines) == 2
    assert lines[0].startswith(
        "Warning: sub: submitting makes the repository public. Look through every file"
    )
    assert lines[1] == f"{folder}: 0 errors, 1 warning"


def _edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def _resealed(old: str, new: str) -> Callable[[Path], None]:
    """A change of prompts.json whose checksum was computed anew."""

    def change(folder: Path) -> None:
        _edit(JSON, old, new)(folder)
        content = json.loads((folder / JSON).read_text())
        del content[KEY]
        (folder / JSON).write_text(json.dumps(summed(content)))

    return change


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: bool((folder / name).write_bytes(content)) and None


def _paint(value: float | None, *, label: bool = True) -> Callable[[Path], None]:
    pixels = _noise(5) if value is None else np.full((64, 64, 3), value)
    return lambda folder: _picture(folder / ONE, pixels, label=label)


def _cut(folder: Path) -> None:
    content = (folder / ONE).read_bytes()
    (folder / ONE).write_bytes(content[: len(content) // 2])


def _twice(folder: Path) -> None:
    shutil.copy(folder / "polyps/images/prompt0001_img0002.png", folder / ONE)


def _remove(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "file", "problem"),
    [
        (_paint(0), ONE, "is black"),
        (_paint(90), ONE, "is of one color"),
        (_paint(None, label=False), ONE, "does not say that it is synthetic"),
        (_cut, ONE, "truncated"),
        (_write(ONE, b""), ONE, "the file is empty"),
        (_paint(None), ONE, "is not the image that images.csv lists"),
        (_twice, "polyps/images/prompt0001_img0002.png", "shows the same as prompt0001_img0001.png"),
        (_remove(ONE), ONE, "is listed in images.csv and missing"),
        (_write("polyps/images/extra.png", b"x"), "polyps/images/extra.png", "is not listed in images.csv"),
        (_remove("landmarks"), "landmarks", "is missing, and submission.json has it"),
        (_remove("polyps/MODEL_CARD.md"), "polyps/MODEL_CARD.md", "is missing or no text"),
        (_write("polyps/MODEL_CARD.md", b" \n"), "polyps/MODEL_CARD.md", "is empty"),
        (_remove("polyps/prompts.csv"), "polyps/prompts.csv", "is missing"),
        (_write("polyps/prompts.txt", b"a red polyp\n"), "polyps/prompts.txt", "has 1 prompts"),
        (
            _write("polyps/prompts.txt", b"a red polyp\na red polyp\n"),
            "polyps/prompts.txt, line 2",
            "repeats line 1",
        ),
        (_write("polyps/prompts.txt", b"a red polyp\nanother\n"), "polyps/prompts.txt", "has other prompts"),
        (_edit(JSON, '"weight": 0.75', '"weight": 0.5'), JSON, "was damaged, or changed by hand"),
        (_resealed('"weight": 0.75', '"weight": 0.5'), JSON, "add up to 0.75"),
        (_resealed('"category": "polyps"', '"category": "x"'), JSON, "category is 'x'"),
        (_resealed('"study"', '"stud"'), JSON, "study: missing"),
        (_edit(OWN, '"version": 1', '"version": 9'), OWN, "is of another version of promptopt"),
        (_edit(OWN, '"edition": "gi-2024",', ""), OWN, "edition: missing"),
        (_edit(LIST, "a red polyp", "a blue one"), f"{LIST}, line 2", "is not line 1"),
        (_edit(LIST, "images/prompt", "../images/prompt"), LIST, "leads out of"),
        (_write("polyps/model/unet/more.bin", b"\x80"), "polyps/model/unet/more.bin", "is a pickle"),
        (
            _write("polyps/model/unet/diffusion_pytorch_model.safetensors", b"\0" * 64),
            "polyps/model",
            "are no whole safetensors files",
        ),
        (
            _edit("polyps/model/scheduler/scheduler_config.json", "{", '{"x": 1,'),
            "polyps/model",
            "is another model",
        ),
        (_remove("polyps/model"), "polyps/model", "is missing, and submission.json says"),
        (_remove("synthesis/manifest.csv"), "synthesis/manifest.csv", "cannot be read"),
        (lambda f: (f / "more").mkdir(), "more", "is no part of the submission"),
        (lambda f: (f / "polyps/link").symlink_to("/etc"), "polyps/link", "is a link"),
    ],
)  # fmt: skip
def test_every_fault_is_an_error_with_its_file(
    folder: Path, change: Callable[[Path], None], file: str, problem: str
) -> None:
    change(folder)
    code, lines = check(folder, "--write-checksums")
    hits = [line for line in lines if line.startswith(f"Error: {file}: ") and problem in line]
    assert hits, lines
    assert code == 1
    assert all(line.rstrip(".").count(". ") >= 1 for line in hits)  # problem, then remedy


@pytest.mark.parametrize(
    ("change", "file", "problem"),
    [
        (_edit("README.md", "MEDVQA", "medvqa"), "README.md", "is not what SHA256SUMS says"),
        (_write("polyps/notes.txt", b"x"), "polyps/notes.txt", "is not listed in SHA256SUMS"),
        (_remove("README.md"), "README.md", "is listed in SHA256SUMS and missing"),
        (_remove("SHA256SUMS"), "SHA256SUMS", "is missing"),
        (_write("SHA256SUMS", b"0  x\n"), "SHA256SUMS, line 1", "is no checksum"),
        (_write("SHA256SUMS", b"0" * 64 + b"  ../x\n"), "SHA256SUMS, line 1", "leads out of the folder"),
    ],
)
def test_checksums(folder: Path, change: Callable[[Path], None], file: str, problem: str) -> None:
    change(folder)
    code, lines = check(folder)
    assert code == 1
    assert any(line.startswith(f"Error: {file}: ") and problem in line for line in lines)


def test_what_is_odd_is_a_warning_and_ends_with_0(folder: Path) -> None:
    path = folder / "README.md"
    path.write_text(path.read_text() + "\nwritten at /home/someone/thesis\n")
    (folder / "polyps" / ".DS_Store").write_bytes(b"x")
    code, lines = check(folder, "--write-checksums")
    assert code == 0, lines
    said = "\n".join(lines)
    assert "Warning: README.md: names a path of your machine: /home/someone/thesis" in said
    assert "Warning: polyps/.DS_Store: is a leftover" in said
    assert lines[-1].endswith("0 errors, 3 warnings")


def test_a_partial_submission_is_said_to_be_one(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path)])
    write_gi2024(
        runs, tmp_path / "out", store=tmp_path / "store", load=lambda _: FakeGenerator(), partial=True,
        weights="reference", generator="hf:me/model",
    )  # fmt: skip
    code, lines = check(tmp_path / "out")
    assert code == 0
    said = "\n".join(lines)
    assert "Warning: landmarks: is left out" in said
    assert "polyps: hf:me/model names no revision" in said
    assert "hf:me/model is not on this machine, so prompts are counted by CLIP's vocabulary" in said
    details = json.loads((tmp_path / "out" / "submission.json").read_text())
    details["partial"] = False
    (tmp_path / "out" / "submission.json").write_text(json.dumps(details))
    code, lines = check(tmp_path / "out", "--write-checksums")
    assert code == 1
    assert any(line.startswith("Error: instruments: is missing") for line in lines)


def test_real_images_are_found_under_any_name(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data" / "images"
    data.mkdir(parents=True)
    real = [_noise(seed) for seed in range(50, 53)]
    for index, pixels in enumerate(real):
        _picture(data / f"patient{index}.png", pixels, label=False)
    shutil.copy(data / "patient0.png", folder / "polyps" / "logo.png")  # the file itself
    _picture(folder / ONE, real[1])  # its pixels, saved anew and labeled
    second = "polyps/images/prompt0001_img0002.png"
    _picture(folder / second, np.clip(real[2] + 1, 0, 255))
    code, lines = check(folder, "--write-checksums", "--data", tmp_path / "data")
    said = "\n".join(lines)
    assert code == 1
    assert "Error: polyps/logo.png: is the data set's file images/patient0.png" in said
    assert f"Error: {ONE}: is the real image patient1.png" in said
    assert f"Warning: {second}: looks like the real image patient2.png" in said
    assert check(folder, "--data", tmp_path / "nowhere")[0] == 2


def test_prompts_over_the_limit_of_the_copied_model(folder: Path) -> None:
    findings = Findings()
    long = "a polyp " * 60 + "with a tail"
    check_lengths(["a polyp", long], folder / "polyps" / "model", "prompts.txt", findings)
    (found,) = findings
    assert found.file == "prompts.txt, line 2"
    assert "with a tail' would be lost" in found.problem
    by_clip = Findings()
    check_lengths(["a polyp", long], "hf:nobody/nothing", "prompts.txt", by_clip)
    assert [finding.level for finding in by_clip] == ["error", "warning"]
    # each word one token, start and end: 122 and 2
    assert "124 tokens" in str(next(iter(by_clip))) or "tokens, and the model reads 77" in str(
        next(iter(by_clip))
    )


@pytest.mark.parametrize(("shift", "near"), [(1.0, True), (6.0, False)])
def test_near_duplicates_by_a_known_shift(tmp_path: Path, shift: float, near: bool) -> None:
    base = np.clip(_noise(1), 10, 245)
    _picture(tmp_path / "a.png", base)
    _picture(tmp_path / "b.png", base + shift)  # the thumbnails differ by exactly the shift
    _picture(tmp_path / "c.png", _noise(2))
    findings = Findings()
    made = check_pictures(tmp_path, [Path("a.png"), Path("b.png"), Path("c.png")], findings)
    assert [finding.file for finding in findings] == (["b.png"] if near else [])
    assert (shift < NEAR) == near
    against = Findings()
    assert check_against_real(made, [tmp_path / "a.png"], against) == 1
    assert [(f.level, f.file) for f in against] == [("error", "a.png")] + [("warning", "b.png")] * near


def test_a_synthesis_folder_can_be_checked_too(folder: Path, tmp_path: Path) -> None:
    made = shutil.copytree(folder / "synthesis", tmp_path / "made")
    assert check(made)[0] == 0
    code, lines = check(made, "--edition", "gi-2025")
    assert code == 1
    said = "\n".join(lines)
    assert "prompt 1 has 2 images, the edition takes 10" in said
    assert check(tmp_path)[0] == 2
