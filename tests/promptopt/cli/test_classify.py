"""`promptopt classify` from the terminal: tables, files, the store, and what it refuses."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluation.estimate import Estimate
from promptopt.cli.main import main
from studies.dataset import read_dataset

runner = CliRunner()
QUICK = ("--target", "category", "--resamples", 100, "--device", "cpu")


def run(*arguments: object):
    return runner.invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classify") / "phantom"
    result = run("data", "prepare", "phantom", folder, "--images", 110, "--size", 32, "--seed", 4)
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.slow
def test_tables_files_and_a_second_run_that_encodes_nothing(phantom, tmp_path, monkeypatch):
    command = ("classify", phantom, phantom, *QUICK, "--seeds", 2, "--ratios", "0.5,1", "--by", "center")
    places = ("--out", tmp_path / "out", "--store", tmp_path / "store")
    result = run(*command, *places)
    assert result.exit_code == 0, result.output
    for said in ("all test images", "north test images", "R->R", "S->R", "R+S->R 1:0.5", "S->S", "R->S"):
        assert said in result.stdout
    assert result.stdout.splitlines()[-3:] == [
        str(tmp_path / "out" / f"arms.{end}") for end in ("json", "csv", "html")
    ]
    document = json.loads((tmp_path / "out" / "arms.json").read_text())
    assert document["classes"] == ["instruments", "landmarks", "normal", "polyps"]
    assert document["encoder"]["uri"] == "embedded"
    assert document["real"]["fingerprint"] == read_dataset(phantom).fingerprint
    first = document["rows"][0]
    assert (first["arm"], first["scope"]) == ("R->R", "all")
    accuracy = Estimate.from_json(first["estimates"]["accuracy"])
    assert accuracy.value is not None
    assert accuracy.value > 0.5
    with (tmp_path / "out" / "arms.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(document["rows"])
    assert float(table[0]["accuracy:value"]) == pytest.approx(accuracy.value, abs=1e-5)
    assert table[0]["accuracy:p"] == ""
    page = (tmp_path / "out" / "arms.html").read_text()
    for drawn in ("Plotly.newPlot", "scores-0", "confusion-0", "north test images"):
        assert drawn in page
    assert "<script src" not in page  # nothing is fetched

    def no_encoding(*_: object, **__: object):
        raise AssertionError("encoded again")

    monkeypatch.setattr("evaluation.encoders.open_clip.OpenClipEncoder.encode_images", no_encoding)
    again = run(*command, *places)
    assert again.exit_code == 0, again.output
    assert again.stdout == result.stdout


@pytest.mark.parametrize("network", ["resnet18", "small", "timm:resnet10t"])
def test_subfolders_and_a_network_on_pixels_that_is_not_trained_twice(phantom, tmp_path, network):
    made = tmp_path / "made"
    for record in read_dataset(phantom).where(category=["polyps", "landmarks"], pool="validation"):
        (made / record.category).mkdir(parents=True, exist_ok=True)
        shutil.copy(phantom / record.file_name, made / record.category)
    command = (
        *("classify", phantom, made, *QUICK, "--classes", "polyps,landmarks", "--arms", "S->R,R->S"),
        *("--network", network, "--steps", 1, "--batch-size", 2, "--image-size", 32, "--seeds", 1),
        *("--out", tmp_path / "out", "--store", tmp_path / "store"),
    )
    result = run(*command)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out" / "arms.json").read_text())
    assert [row["arm"] for row in document["rows"]] == ["R->R", "S->R", "R->S"]
    assert document["settings"]["learner_settings"]["steps"] == 1
    # one seed tells nothing of how much seeds vary
    assert {row["estimates"]["accuracy"]["status"] for row in document["rows"]} == {"unreliable"}
    assert not (tmp_path / "store").exists()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / ".trained").iterdir()}
    assert run(*command).exit_code == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / ".trained").iterdir()}
    assert after == before  # nothing was trained again


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ratios", "1,x"], "write numbers"),
        (["--ratios", "50"], "choose a ratio up to"),
        (["--arms", "R->X"], "R->X"),
        (["--classes", "polyps,cats"], "cats"),
        (["--classes", "polyps"], "only one class"),
        (["--weights", "w.safetensors"], "--weights belongs to"),
        (["--network", "resnet81"], "'resnet81' is no network"),
        (["--network", "vit_b_16", "--image-size", "32"], "does not read images of 32 x 32"),
        (["--network", "resnet18", "--weights", "w.safetensors"], "w.safetensors"),
    ],
)
def test_what_cannot_be_done_is_said(phantom, tmp_path, options, said):
    places = ("--out", tmp_path / "out", "--store", tmp_path / "store")
    result = run("classify", phantom, phantom, *QUICK, *places, *options)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out" / "arms.json").exists()


def test_an_image_of_the_test_pool_among_the_synthetic_ones_is_refused(phantom, tmp_path):
    made = tmp_path / "made"
    records = [*read_dataset(phantom).where(pool="validation"), *read_dataset(phantom).where(pool="test")]
    for record in records:
        (made / record.category).mkdir(parents=True, exist_ok=True)
        shutil.copy(phantom / record.file_name, made / record.category)
    result = run("classify", phantom, made, *QUICK, "--out", tmp_path / "out", "--store", tmp_path / "s")
    assert result.exit_code == 2
    assert "is the same file as" in result.stderr
    for folder in ("gone", "made"):
        missing = run("classify", tmp_path / folder, made, *QUICK, "--out", tmp_path / "out")
        assert missing.exit_code == 2
        assert folder in missing.stderr
    assert not (tmp_path / "out").exists()
