"""`promptopt plan`, as a user calls it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from promptopt.cli.main import main

STUDY = """\
name: planned
classes:
  polyp: {category: polyps}
  z-line: {category: landmarks}
data: {phantom: {images: 150}}
set: {budget: 100, images: 4}
search: {proposals_per_step: 2}
"""


def invoke(folder: Path, *words: str, text: str = STUDY) -> tuple[int, str]:
    (folder / "study.yaml").write_text(text)
    done = CliRunner().invoke(main, ["plan", str(folder / "study.yaml"), *words], env={"COLUMNS": "160"})
    return done.exit_code, done.output


def test_with_a_rate_it_opens_no_data_and_no_network(tmp_path: Path) -> None:
    text = STUDY.replace("{phantom: {images: 150}}", "/no/such/folder") + "encoder: /no/such/encoder\n"
    code, said = invoke(
        tmp_path, "--rate", "4", "--batch-size", "8", "--gpus", "4", "--images", "1000", text=text
    )
    assert code == 0, said
    assert "at most 2,200 images (search 200, confirmation 1,000, augmentation 1,000)" in said
    rows = [line.split() for line in said.splitlines()]
    # 52 + 252 + 250 s alone; 40 + 64 + 64 s by four, 137.5 s if nobody waited
    assert " ".join(next(row for row in rows if row[:2] == ["1", "52"])).startswith(
        "1 52 s 4 min 12 s 4 min 10 s 9 min 14 s 9 min 10 s 99 %"
    )
    four = " ".join(next(row for row in rows if row[:2] == ["4", "40"]))
    assert four.startswith("4 40 s 1 min 04 s 1 min 04 s 2 min 48 s 2 min 18 s 82 %")
    assert (
        "What limits 4 workers: a step of the search has 8 images, 1 batch of 8: 3 of 4 workers wait" in said
    )
    assert "Disk: not known without a measurement" in said
    assert "Not counted: loading the model" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rate", "0"), "more than 0"),
        (("--rate", "nan"), "nan"),
        (("--rate", "2", "--on", "slurm"), "say jobs=8"),
        (("--rate", "2", "--gpus", "0"), "--gpus"),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    code, output = invoke(tmp_path, *words)
    assert code == 2
    assert said in output.lower()


def test_the_place_says_how_many_workers(tmp_path: Path) -> None:
    code, said = invoke(tmp_path, "--rate", "4", "--on", "slurm:gpu?jobs=16&gpus=1")
    assert code == 0
    assert re.findall(r"(?m)^ *(\d+) +[\dhmins ]+%", said) == ["1", "4", "16"]


def test_without_a_rate_this_machine_is_measured(tmp_path: Path) -> None:
    text = STUDY.replace("{phantom: {images: 150}}", "/no/such/folder") + "generator: {steps: 1}\n"
    code, said = invoke(tmp_path, "--on", "processes:64", text=text)
    assert code == 0, said
    assert "images/s of one worker, measured here. Disk: " in said
    assert " an image, as measured)" in said
    assert "64 processes of 1 threads share" in " ".join(said.split())
