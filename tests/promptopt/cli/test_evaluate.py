"""`promptopt evaluate` from the outside."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from promptopt.cli.main import main
from tests.evaluation.report.test_evaluate import write_images


def test_two_folders_become_a_table_and_three_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "real" / "polyps", 6, seed=0)
    write_images(tmp_path / "made" / "polyps", 5, seed=1, tint=0.5)
    command = ["evaluate", "real", "made", "--by", "category", "--out", "out", "--allow-embedded"]
    first = CliRunner().invoke(main, command)
    assert first.exit_code == 0, first.output
    assert "FD (embedded)" in first.stdout
    assert "category=polyps: 6 real, 5 generated" in first.stdout
    assert "no AUROC on real images" in first.stderr.replace("\n", " ")
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert document["card"]["encoders"][0]["fingerprint"]
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())["rows"]
    with (tmp_path / "out" / "evaluation.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert list(lines[0])[:4] == ["metric", "name", "encoder", "part"]
    assert len(lines) == len(written)
    for line, row in zip(lines, written, strict=True):
        assert (line["metric"], line["status"]) == (row["metric"], row["estimate"]["status"])
        value = row["estimate"]["value"]
        assert line["value"] == ("" if value is None else repr(value))
    assert "# Metric card" in (tmp_path / "out" / "card.md").read_text()
    kept = (tmp_path / "out" / "evaluation.json").read_bytes()
    from evaluation.encoders.open_clip import OpenClipEncoder

    monkeypatch.setattr(OpenClipEncoder, "encode_images", lambda *_: pytest.fail("encoded again"))
    assert CliRunner().invoke(main, command).exit_code == 0
    assert (tmp_path / "out" / "evaluation.json").read_bytes() == kept


def test_copies_are_drawn_and_old_pictures_do_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "train", 12, seed=0)
    write_images(tmp_path / "real", 120, seed=1)
    write_images(tmp_path / "made", 18, seed=2)
    for name in ("000.png", "001.png"):
        shutil.copy(tmp_path / "train" / name, tmp_path / "made" / f"copy-{name}")
    shutil.copy(tmp_path / "made" / "004.png", tmp_path / "made" / "again.png")
    command = ["evaluate", "real", "made", "--metrics", "memorization,duplicates", "--out", "out"]
    command.append("--allow-embedded")
    done = CliRunner().invoke(main, [*command, "--training", "train"])
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    copied = {Path(pair["generated"]).name for pair in document["copies"] if pair["copy"]}
    assert copied == {"copy-000.png", "copy-001.png"}
    found = [[Path(file).name for file in files] for files in document["duplicates"]]
    assert ["004.png", "again.png"] in found
    for name in ("copies.png", "duplicates.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.width > 200
    assert CliRunner().invoke(main, [*command[:4], "diversity", *command[5:]]).exit_code == 0
    assert not list((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metrics", "fd,fid"], "metric 'fid' does not exist"),
        (["--encoder", "nowhere"], "no such folder"),
        (["--by", "color"], "by 'color' does not exist"),
        (["--pool", "test"], "it has no pools"),
        (["--metrics", "memorization"], "name the training images too"),
        (["--cross"], "cross needs category and center"),
        (["--second-encoder", "embedded"], "is the first one"),
        (["--texts", "ulcers"], "category 'ulcers' does not exist"),
    ],
)
def test_what_is_wrong_is_said(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "real", 2, seed=0)
    done = CliRunner().invoke(main, ["evaluate", "real", "real", "--allow-embedded", *words])
    assert done.exit_code == 2
    assert said in done.stderr.replace("\n", " ")
