"""`promptopt export submission --edition gi-2024` from the outside."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import generators.loading
from generators.loading import EMBEDDED
from promptopt.challenge.submission.details import read_details
from promptopt.challenge.submission.models import model_fingerprint
from promptopt.cli.main import main
from promptopt.run.prompts import Network, read_prompts
from tests.generators.fake import FakeGenerator
from tests.promptopt.export.runs import SETTINGS, prompt_list, write_run, write_three


def submit(*words: object) -> tuple[int, str]:
    """Exit code, and what was said on one line."""
    done = CliRunner().invoke(main, ["export", "submission", "--edition", "gi-2024", *map(str, words)])
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(autouse=True)
def _no_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """All images are in the store, so no model is loaded unless a test says so."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a generator was loaded")

    monkeypatch.setattr(generators.loading, "load", refuse)


def _tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_folder_by_category(tmp_path: Path) -> None:
    runs, out = write_three(tmp_path), tmp_path / "out"
    (tmp_path / "info.yaml").write_text("Team_Name: A | B\nContact_emails: [a@example.org]\n")
    code, said = submit(
        *runs, "--out", out, "--store", tmp_path / "store", "--examples", 3, "--info", tmp_path / "info.yaml"
    )
    assert code == 0, said
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert len(checked.stdout.splitlines()) == len(_tree(out)) - 1
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"polyps", "landmarks", "instruments"}
    details = read_details(out)
    assert {name: entry.images for name, entry in details.categories.items()} == {
        "polyps": 6,
        "landmarks": 6,
        "instruments": 6,
    }
    polyps = out / "polyps"
    assert (polyps / "prompts.txt").read_text() == "a red polyp\na pale polyp, sharp\n"
    assert model_fingerprint(polyps / "model", []) == prompt_list().generator.fingerprint
    assert (polyps / "model" / "README.md").read_text() == (EMBEDDED / "README.md").read_text()
    assert not [path for path in out.rglob("*") if path.suffix in (".bin", ".pt", ".ckpt")]
    with (polyps / "images.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"] for row in rows[:4]] == [f"images/prompt{p:04d}_img{i:04d}.png" for p, i in
                                                 ((1, 1), (1, 2), (1, 3), (2, 1))]  # fmt: skip
    assert len({row["seed"] for row in rows}) == 6  # of the confirmation, another for every image
    assert {int(row["seed"]) for row in rows} <= set(prompt_list().seeds.confirmation)
    for row in rows:
        with Image.open(polyps / row["file"]) as image:
            assert image.text["synthetic"] == "true"
            request = json.loads(image.text["request"])
        assert (request["prompt"], request["seed"]) == (row["prompt"], int(row["seed"]))
        assert hashlib.sha256((polyps / row["file"]).read_bytes()).hexdigest() == row["sha256"]
    assert "A | B" not in (out / "README.md").read_text()  # it would break the list
    assert "A &#124; B" in (out / "README.md").read_text()
    assert "- polyps: none of 2 confirmed prompts is shown to be better" in (out / "README.md").read_text()
    assert "generate polyps/model 'a red polyp' --steps 2 --guidance " in (out / "README.md").read_text()
    card = (polyps / "MODEL_CARD.md").read_text()
    assert "Steps: 2" in card
    assert "a pale polyp, sharp" in card
    # no path of this machine, as the repository will be public
    assert read_prompts(polyps / "prompts.json").encoder.uri == "clip"
    for path in out.rglob("*"):
        if path.suffix in (".json", ".md", ".csv", ".txt"):
            assert str(tmp_path) not in path.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "store", "out", "info.yaml"}


def test_one_model_of_three_categories_lies_on_the_disk_once(tmp_path: Path) -> None:
    runs, out = write_three(tmp_path), tmp_path / "out"
    submit(*runs, "--out", out, "--examples", 0)
    weights = [path.stat() for path in out.glob("*/model/unet/*.safetensors")]
    assert len(weights) == 3
    assert len({stat.st_ino for stat in weights}) == 1
    assert weights[0].st_ino != (EMBEDDED / "unet" / "diffusion_pytorch_model.safetensors").stat().st_ino
    assert not list(out.glob("*/images*"))


def test_missing_double_and_foreign_categories(tmp_path: Path) -> None:
    polyps, out = write_run(tmp_path), tmp_path / "out"
    common = ["--out", out, "--store", tmp_path / "store"]
    code, said = submit(polyps, *common)
    assert code == 2
    assert "no run of landmarks, instruments is given" in said
    second = write_run(tmp_path, study="second")
    assert "are both of the category 'polyps'" in submit(polyps, second, *common)[1]
    other = write_run(tmp_path, "mucosa", stored=False)
    assert "'mucosa' is none of the challenge's" in submit(other, *common)[1]
    assert not out.exists()
    assert submit(polyps, *common, "--partial")[0] == 0
    assert read_details(out).partial
    assert list(read_details(out).categories) == ["polyps"]


def test_another_generators_weights_are_refused(tmp_path: Path) -> None:
    network = Network(uri="embedded", fingerprint="a" * 64)
    run, out = write_run(tmp_path, generator=network), tmp_path / "out"
    code, said = submit(run, "--out", out, "--store", tmp_path / "store", "--partial")
    assert code == 2
    assert "embedded is another generator" in said
    assert "(aaaaaaaaaaaa)" in said
    moved = shutil.copytree(EMBEDDED, tmp_path / "model")
    (moved / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (moved / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04")
    code, said = submit(write_run(tmp_path / "b"), "--out", out, "--partial", "--generator", moved)
    assert code == 2
    assert "only plain safetensors weights are read" in said
    assert "clip-guided" in submit(run, "--out", out, "--partial", "--generator", "clip-guided:embedded")[1]
    assert not out.exists()


def test_weights_by_reference(tmp_path: Path) -> None:
    run, out = write_run(tmp_path), tmp_path / "out"
    common = [run, "--out", out, "--store", tmp_path / "store", "--partial"]
    code, said = submit(*common, "--weights", "reference")
    assert code == 2
    assert "embedded is no hub address" in said
    assert submit(*common, "--generator", "hf:me/model@abc123+lora:hf:me/lora@0.5")[0] == 0
    model = read_details(out).categories["polyps"].model
    assert (model.weights, model.uri) == ("reference", "hf:me/model@abc123+lora:hf:me/lora@0.5")
    assert not (out / "polyps" / "model").exists()
    code, said = submit(*common, "--force", "--generator", "hf:me/none", "--weights", "copy")
    assert code == 2
    assert "nothing is downloaded here" in said
    assert read_details(out).categories["polyps"].model == model  # the old one stayed


def test_images_that_the_store_lacks_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGenerator()
    monkeypatch.setattr(generators.loading, "load", lambda *_, **__: fake)
    run, out = write_run(tmp_path, stored=False), tmp_path / "out"
    common = [run, "--out", out, "--store", tmp_path / "store", "--partial"]
    code, said = submit(*common)
    assert code == 2
    assert "fake is another model (000000000000) than the study's" in said
    assert not out.exists()
    fake.fingerprint = prompt_list().generator.fingerprint
    assert submit(*common, "--examples", 2)[0] == 0
    assert [(request.prompt, request.seed) for request in fake.made] == [
        ("a red polyp", 100),
        ("a red polyp", 101),
        ("a pale polyp, sharp", 102),
        ("a pale polyp, sharp", 103),
    ]
    assert {request.steps for request in fake.made} == {SETTINGS["steps"]}
    code, said = submit(*common, "--examples", 9, "--force")
    assert code == 2
    assert "confirmed with 8 seeds" in said


def test_the_synthesis_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGenerator()
    fake.fingerprint = prompt_list().generator.fingerprint
    monkeypatch.setattr(generators.loading, "load", lambda *_, **__: fake)
    (tmp_path / "p.csv").write_text("Prompt;Filename\na polyp;a.jpg\na snare;b.jpg\n")
    run, out, made = write_run(tmp_path), tmp_path / "out", tmp_path / "made"
    common = [run, "--out", out, "--store", tmp_path / "store", "--partial", "--examples", "0"]
    assert submit(*common, "--test-prompts", tmp_path / "p.csv", "--per-prompt", 2)[0] == 0
    entry = read_details(out).synthesis
    assert entry is not None
    assert (entry.prompts, entry.images) == (2, 4)
    assert len(list((out / "synthesis" / "images").iterdir())) == 4 == len(fake.made)
    assert "polyps/model" in (out / "synthesis" / "manifest.csv").read_text()
    assert not (out / ".synthesis").exists()

    words = ["synthesize", "--prompts", str(tmp_path / "p.csv"), "--generator", "x", "--out", str(made)]
    assert CliRunner().invoke(main, [*words, "--seed", "4"]).exit_code == 0
    assert "both given" in submit(*common, "--images", made, "--test-prompts", made)[1]
    assert submit(*common, "--images", made, "--force")[0] == 0
    assert len(list((out / "synthesis" / "images").iterdir())) == 2
    manifest = (made / "manifest.csv").read_text()
    before = _tree(out)
    for change, expected in (
        (lambda text: text.replace("images/prompt0001", "../images/prompt0001"), "leads out of images/"),
        (lambda text: "\n".join(text.splitlines()[:2]) + "\n", "lists 1 images, and 2 were to be made"),
        (lambda text: text.replace(fake.fingerprint, "b" * 64), "is of another generator (bbbbbbbbbbbb)"),
        (lambda text: text.replace("sha256", "md5"), "its columns are others"),
        (lambda text: text.replace("prompt0002", "prompt0001"), "lists a file twice"),
    ):
        (made / "manifest.csv").write_text(change(manifest))
        code, said = submit(*common, "--images", made, "--force")
        assert code == 2
        assert expected in said
    (made / "manifest.csv").write_text(manifest)
    image = made / "images" / "prompt0002_img0001.png"
    content = image.read_bytes()
    image.unlink()
    assert "is missing; run the same" in submit(*common, "--images", made, "--force")[1]
    image.write_bytes(content[:-1] + b"x")
    assert "changed since it was made" in submit(*common, "--images", made, "--force")[1]
    assert _tree(out) == before


def test_only_a_submission_is_replaced_and_only_when_told(tmp_path: Path) -> None:
    run, out = write_run(tmp_path), tmp_path / "out"
    common = [run, "--out", out, "--store", tmp_path / "store", "--partial"]
    assert submit(*common)[0] == 0
    before = _tree(out)
    code, said = submit(*common, "--examples", 1)
    assert code == 2
    assert "exists already; choose another folder, or --force" in said
    assert _tree(out) == before
    assert submit(*common, "--examples", 1, "--force")[0] == 0
    assert len(list((out / "polyps" / "images").iterdir())) == 2
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.md").write_text("years of work")
    code, said = submit(run, "--out", mine, "--partial", "--force")
    assert code == 2
    assert "not replaced, even with --force" in said
    assert (mine / "chapter.md").read_text() == "years of work"


def test_a_full_disk_leaves_the_old_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, out = write_run(tmp_path), tmp_path / "out"
    common = [run, "--out", out, "--store", tmp_path / "store", "--partial", "--force"]
    assert submit(*common)[0] == 0
    before = _tree(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "weights")

    monkeypatch.setattr(shutil, "copyfile", full)
    code, said = submit(*common)
    assert code == 2
    assert "No space left on device); free some space. What was there before is as it was." in said
    assert _tree(tmp_path) == before


_KILLED = """
import os, sys
from pathlib import Path
from promptopt.challenge.submission import folder
if sys.argv[2] == "between":
    folder.Path.rename, renames = lambda self, to, own=Path.rename: (own(self, to), os._exit(9))[0], 0
with folder.new_folder(Path(sys.argv[1]), force=True) as place:
    (place / "half").write_text("x")
    if sys.argv[2] == "within":
        os._exit(9)
"""


@pytest.mark.parametrize("moment", ["within", "between"])
def test_a_killed_process_leaves_the_old_submission(tmp_path: Path, moment: str) -> None:
    run, out = write_run(tmp_path), tmp_path / "out"
    common = [run, "--out", out, "--store", tmp_path / "store", "--partial"]
    assert submit(*common)[0] == 0
    before = _tree(out)
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(out), moment], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert killed.returncode == 9
    assert out.exists() == (moment == "within")
    code, said = submit(*common)  # not forced: the old one is back first, and refused
    assert code == 2
    assert "exists already" in said
    assert _tree(out) == before
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "store", "out"}


def test_options_of_the_other_edition_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, stored=False)
    assert "--repo is of --edition gi-2025" in submit(run, "--out", tmp_path / "o", "--repo", "a/b")[1]
    words = ["export", "submission", str(run), "--edition", "gi-2025", "--out", str(tmp_path / "o")]
    done = CliRunner().invoke(main, [*words, "--images", str(tmp_path)])
    assert done.exit_code == 2
    assert "its script makes the images" in " ".join(done.output.replace("│", " ").split())
    (tmp_path / "info.yaml").write_text(yaml.safe_dump({"Team_Name": 3}))
    said = submit(run, "--out", tmp_path / "o", "--info", tmp_path / "info.yaml")[1]
    assert "Team_Name: 3 is no text" in said
