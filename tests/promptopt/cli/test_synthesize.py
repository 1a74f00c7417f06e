"""`promptopt synthesize` from the outside, with the embedded generator."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import generators.loading
from evaluation.challenge.gi2025 import list_images
from promptopt.cli.main import main
from tests.generators.fake import FakeGenerator


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeGenerator:
    generator = FakeGenerator()
    monkeypatch.setattr(generators.loading, "load", lambda *_, **__: generator)
    return generator


@pytest.mark.slow
def test_killed_halfway_the_same_command_goes_on(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("Prompt;Filename\na colonoscopy image of a polyp;a.jpg\nbiopsy forceps;b.jpg\n")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "promptopt", "synthesize", "--prompts", str(prompts)]
    command += ["--generator", "embedded", "--out", str(out), "--per-prompt", "20", "--steps", "2"]
    command += ["--batch-size", "2", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    running = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment)
    while len(list(out.glob("images/*.png"))) < 4:
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    stored = [path for path in out.glob(".store/*/*.png") if path.with_suffix(".json").exists()]
    kept = {path: path.stat().st_ino for path in stored}
    assert 4 <= len(kept) < 40
    assert not (out / "manifest.csv").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert f"{40 - len(kept)} generated now, {len(kept)} were there" in done.stdout
    assert {path: path.stat().st_ino for path in kept} == kept  # none of them was made twice
    with (out / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["sha256"] for row in rows}) == 40 == len(list(out.glob("images/*")))
    with Image.open(out / rows[-1]["file"]) as image:
        assert image.text["synthetic"] == "true"
        assert "biopsy forceps" in image.text["request"]
    assert Image.open(out / "sheet.png").width > 8 * 128


def test_the_2025_edition_is_laid_out_as_its_scorer_wants(fake: FakeGenerator, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a polyp\n\na polyp\na snare\n")
    command = ["synthesize", "--prompts", str(tmp_path / "p.txt"), "--generator", "embedded"]
    command += ["--out", str(tmp_path / "out"), "--edition", "gi-2025"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert len(list_images(tmp_path / "out" / "images", prompts=3)) == 30
    said = done.stderr.replace("\n", " ")
    assert "1 empty lines left out: line 2" in said
    assert "1 prompts repeat an earlier one (1 different" in said
    assert "3 is odd" in said
    for words in (["--per-prompt", "4"], ["--pattern", "{p}_{i}.png"], ["--total", "9"], ["--skip-too-long"]):
        refused = CliRunner().invoke(main, [*command, *words])
        assert refused.exit_code == 2
        assert "gi-2025" in refused.stderr


def test_what_is_wrong_is_said_before_a_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a polyp\n")
    common = ["synthesize", "--generator", "nowhere", "--out", str(tmp_path / "out")]
    for words, said in (
        (["--prompts", str(tmp_path / "none.txt")], "no such file"),
        (["--prompts", str(tmp_path / "p.txt"), "--pattern", "{p}.png", "--per-prompt", "2"], "lacks {i}"),
        (["--prompts", str(tmp_path / "p.txt"), "--total", "3", "--per-prompt", "2"], "give one of them"),
    ):
        done = CliRunner().invoke(main, [*common, *words])
        assert done.exit_code == 2
        assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_prompts_of_several_lines_reach_generator_manifest_and_sheet(
    fake: FakeGenerator, tmp_path: Path
) -> None:
    prompt = "a polyp,\nred\r\nand flat"
    with (tmp_path / "p.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter="\t").writerows([["Prompt"], [prompt]])
    command = ["synthesize", "--prompts", str(tmp_path / "p.csv"), "--generator", "embedded"]
    done = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert [request.prompt for request in fake.made] == [prompt]
    with (tmp_path / "out" / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["prompt"] for row in csv.DictReader(stream)] == [prompt]
    assert (tmp_path / "out" / "sheet.png").exists()
    done = CliRunner().invoke(main, ["generate", "embedded", prompt, "--out", str(tmp_path / "one")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "one" / "sheet.png").exists()


def test_long_prompts_are_left_out_with_a_count(fake: FakeGenerator, tmp_path: Path) -> None:
    fake.max_tokens = 4
    (tmp_path / "p.txt").write_text("a polyp\na very long polyp\n")
    command = ["synthesize", "--prompts", str(tmp_path / "p.txt"), "--generator", "embedded"]
    command += ["--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 2
    assert "line 2: 6 tokens: a very long polyp" in refused.stderr
    done = CliRunner().invoke(main, [*command, "--skip-too-long"])
    assert done.exit_code == 0
    assert "1 prompts left out, too long for the generator: line 2" in done.stderr
    assert "1 images in" in done.stdout


def test_a_studys_settings_are_taken_unless_told_otherwise(
    fake: FakeGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptopt.synthesis import prompt_files

    listed = prompt_files.PromptFile(
        tmp_path / "prompts.json",
        (
            prompt_files.PromptLine(text="a", number=1, line=1, weight=0.75),
            prompt_files.PromptLine(text="b", number=2, line=2, weight=0.25),
        ),
        sampling={"steps": 9, "guidance": 3.0, "negative_prompt": "text"},
        generator="f" * 64,
    )
    monkeypatch.setattr(prompt_files, "read_prompt_file", lambda _: listed)
    command = ["synthesize", "--prompts", "prompts.json", "--generator", "embedded"]
    command += ["--out", str(tmp_path / "out"), "--guidance", "2", "--total", "4"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert [request.prompt for request in fake.made] == ["a", "a", "a", "b"]
    assert {(r.steps, r.guidance, r.negative_prompt) for r in fake.made} == {(9, 2.0, "text")}
    assert "found with another generator" in done.stderr
    assert "as in the study: steps 9, negative_prompt 'text'" in done.stderr
