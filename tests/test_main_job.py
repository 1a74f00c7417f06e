"""The main job from the command line: on real patches, and with SIGKILL in the middle."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
STUDY_FILES = REPOSITORY / "studies" / "files"


def promptopt(*arguments: object, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "promptopt", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def some_patches(
    source: Path, target: Path, *, each: int, labels: tuple[str, ...] = ("polyp", "normal")
) -> Path:
    """The first patches of each label and split, in the challenge's layout."""
    rows = [json.loads(line) for line in (source / "images.jsonl").read_text().splitlines()]
    chosen = []
    for label in labels:
        for split, count in (("train", each), ("test", each // 4)):
            chosen += [r for r in rows if (r["label"], r["split"]) == (label, split)][:count]
    (target / "images").mkdir(parents=True)
    for row in chosen:
        shutil.copy(source / "images" / row["file"], target / "images")
    (target / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))
    files = {row["file"] for row in chosen}
    head, *lines = (source / "prompt-gt.csv").read_text().splitlines()
    kept = [line for line in lines if line.split(";")[1] in files]
    (target / "prompt-gt.csv").write_text("\n".join([head, *kept]) + "\n")
    return target


@pytest.mark.slow
def test_real_patches_from_files_to_a_list_of_prompts(shared_data: Path, tmp_path: Path):
    source = some_patches(shared_data / "kvasir-seg-patches", tmp_path / "source", each=40)
    promptopt("data", "prepare", "medvqa-gi-2024", source, "data", cwd=tmp_path)
    few = ("--set", "steps=4", "--set", "warmup_steps=1", "--set", "batch_size=16")
    promptopt("train", "clip", "--init", "embedded", "--data", "data", "--out", "clip", *few, cwd=tmp_path)
    few = ("--set", "vae_training.steps=2", "--set", "training.steps=3", "--set", "validation.images=4")
    promptopt(
        "train",
        "sd",
        "--init",
        "embedded",
        "--data",
        "data",
        "--out",
        "sd",
        "--encoder",
        "clip",
        *few,
        cwd=tmp_path,
    )
    changes = {
        **{
            "data": tmp_path / "data",
            "encoder": tmp_path / "clip",
            "generator.uri": tmp_path / "sd/pipeline",
        },
        **{
            "generator.steps": 3,
            "search.images": 4,
            "search.racing": "false",
            "confirm.top": 1,
            "confirm.images": 4,
        },
    }
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    promptopt("study", "run", STUDY_FILES / "kvasir-polyps.yaml", "--trials", 2, *sets, cwd=tmp_path)
    result = json.loads((tmp_path / "runs" / "kvasir-polyps" / "prompts.json").read_text())
    assert result["prompts"][0]["confirmation"]["score"]["n"] == 4
    assert result["prompts"][0]["confirmation"]["synthetic_to_real"]["status"] in ("ok", "unreliable")
    assert len(list((tmp_path / "store" / "images").rglob("*.png"))) == 4 * (3 + 2)
    assert (tmp_path / "runs" / "kvasir-polyps" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_a_killed_study_goes_on_to_the_same_list(tmp_path: Path):
    study = yaml.safe_load((STUDY_FILES / "quickstart-polyps.yaml").read_text())
    study["data"]["phantom"]["images"] = 200
    study["generator"]["steps"] = 2
    study |= {"search": {"trials": 6, "images": 4}, "confirm": {"top": 2, "images": 4}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    whole = ("study", "run", "study.yaml", "--runs", "whole-runs", "--store", "whole-store")
    promptopt(*whole, cwd=tmp_path)
    command = [sys.executable, "-m", "promptopt", "study", "run", "study.yaml"]
    for images in (7, 17):  # in the first trial, and a few trials later
        child = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
        )
        deadline = time.monotonic() + 300
        while len(list(tmp_path.glob("store/images/*/*.png"))) < images:
            assert child.poll() is None, "the study ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    promptopt("study", "run", "study.yaml", cwd=tmp_path)
    name = study["name"]
    killed = (tmp_path / "runs" / name / "prompts.json").read_bytes()
    assert killed == (tmp_path / "whole-runs" / name / "prompts.json").read_bytes()

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("store/images/*/*.png")}
    promptopt("study", "run", "study.yaml", cwd=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("store/images/*/*.png")} == before
    assert (tmp_path / "runs" / name / "prompts.json").read_bytes() == killed


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path):
    promptopt("data", "prepare", "phantom", "data", "--images", 60, "--size", 64, cwd=tmp_path)
    changes = {
        **{"vae_training.steps": 6, "vae_training.checkpoint_every": 2, "vae_training.batch_size": 4},
        **{"training.steps": 12, "training.checkpoint_every": 3, "training.batch_size": 4},
        **{"training.compile": False, "tracker": "none"},
    }
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    command = ("train", "sd", "--recipe", "tiny", "--data", "data", *sets, "--device", "cpu", "--out")
    promptopt(*command, "whole", cwd=tmp_path)
    rng = random.Random(0)
    for stage in ("vae", "unet"):
        child = subprocess.Popen(
            [sys.executable, "-m", "promptopt", *map(str, command), "cut"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob(f"cut/stages/{stage}/checkpoints/step-*")):
            assert child.poll() is None, "the training ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(rng.random() / 2)  # anywhere: in a step, or while a checkpoint is written
        child.send_signal(signal.SIGKILL)
        child.wait()
    promptopt(*command, "cut", cwd=tmp_path)
    for file in sorted((tmp_path / "whole" / "pipeline").rglob("*.safetensors")):
        other = tmp_path / "cut" / file.relative_to(tmp_path / "whole")
        assert other.read_bytes() == file.read_bytes(), file.name
