"""A paper's tables hold the very numbers that runs and comparisons recorded."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from evaluation.estimate import Estimate
from evaluation.features.image_set import ImageSet
from promptopt.cli.main import main
from promptopt.comparison.run import REAL, GeneratorComparison, Made
from promptopt.comparison.scopes import Scope
from promptopt.comparison.scores import Score
from promptopt.export.paper.captions import word_shares, write_cloud
from promptopt.export.paper.sources import TablesError, read_sources
from promptopt.export.paper.writing import write_tables
from promptopt.run.prompts import read_prompts
from tests.latex import compile_tables
from tests.promptopt.small_run import SmallRun

SCOPES = ("single center: north", "multi center: south + west", "both")


@pytest.fixture
def run(shared_run) -> SmallRun:
    return shared_run


def write_comparison(
    folder: Path, generators: dict[str, float], *, data: str = "d1", samples: bool = True
) -> Path:
    """A comparison.json as compare-generators writes it: each generator's FD at its level, IS beside it."""
    scores = []
    for name, level in {REAL: 1.0, **generators}.items():
        for place, scope in enumerate(SCOPES):
            fd = level + place
            for metric, label, better, value in (
                ("fd", "FID", "lower", fd),
                ("is", "IS", "higher", 1 / fd),
                ("alignment", "alignment margin", "higher", 2.0),
            ):
                estimate = Estimate(value, 0.9 * value, 1.1 * value, 64, "planted", "ok")
                scores.append(Score(name, scope, metric, label, better, True, 100, 64, estimate))
    nothing = ImageSet(folder, (), {}, "f")
    comparison = GeneratorComparison(
        scopes=tuple(Scope("all", title) for title in SCOPES),
        scores=tuple(scores),
        made=tuple(Made(name, name, "f", {}, nothing, 0, None) for name in generators),
        prompts=(),
        real=nothing,
        training=(),
        notes=("a note",),
        facts={
            "settings": {"pool": "test", "single": "north", "per_prompt": 1, "limit": None, "seed": 0},
            "data": {"folder": f"/somewhere/{data}", "fingerprint": data},
            "encoders": [{"uri": "inception", "fingerprint": "i"}],
            "versions": {},
        },
    )
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text(json.dumps(comparison.to_dict()))
    if samples:
        Image.new("RGB", (8, 8), "red").save(folder / "samples.png")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def columns(latex: str) -> set[int]:
    """How many cells the rows of a LaTeX table have, \\multicolumn counted by its width."""
    found = set()
    for line in latex.splitlines():
        if line.endswith(r"\\"):
            wide = sum(int(width) - 1 for width in re.findall(r"\\multicolumn{(\d+)}", line))
            found.add(len(re.findall(r"(?<!\\)&", line)) + 1 + wide)
    return found


@pytest.mark.slow
def test_fid_and_is_by_generator_and_center(tmp_path):
    folder = write_comparison(tmp_path / "cmp", {"clip": 9.0, "sd_15": 4.0})
    sources = read_sources([folder])
    assert not sources.runs
    written, notes = write_tables(sources, tmp_path / "out")
    out = tmp_path / "out" / "generators"
    table = rows(out / "fid-is.csv")
    assert [row["generator"] for row in table] == [REAL, "clip", "sd_15"]
    for row, level in zip(table, (1.0, 9.0, 4.0), strict=True):
        for place, scope in enumerate(SCOPES):
            assert float(row[f"FID, {scope}:value"]) == pytest.approx(level + place)
            assert float(row[f"IS, {scope}:high"]) == pytest.approx(1.1 / (level + place), rel=1e-5)
    latex = (out / "fid-is.tex").read_text()
    assert columns(latex) == {7}
    assert r"\multicolumn{3}{c}{FID $\downarrow$}" in latex
    assert "sd\\_15" in latex
    assert latex.count(r"\textbf") == 6  # its intervals lie apart from the other's in every column
    close = write_comparison(tmp_path / "close", {"clip": 4.2, "sd": 4.0})
    write_tables(read_sources([close]), tmp_path / "close-out")
    assert r"\textbf" not in (tmp_path / "close-out" / "generators" / "fid-is.tex").read_text()
    assert {path.name for path in written} >= {"all.csv", "table-both.tex", "chart-fid.png", "samples.png"}
    for path in written:
        assert path.stat().st_size > 0
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
    assert notes == ["a note"]


def test_every_table_compiles_and_fits_the_text(tmp_path, run):
    folder = write_comparison(tmp_path / "cmp", {"clip_&": 9.0, "sd_15": 4.0, "a name that is long": 1e4})
    sources = read_sources([folder, run.folder])
    written, _ = write_tables(sources, tmp_path / "out", store=run.store)
    sources = [path.read_text() for path in written if path.suffix == ".tex"]
    assert len(sources) == 5  # two of all scopes' and one each, the prompts
    compile_tables(sources, tmp_path / "paper")
    compile_tables(sources, tmp_path / "columns", options="twocolumn")


@pytest.mark.slow
def test_comparisons_on_the_same_images_become_one_table(tmp_path):
    first = write_comparison(tmp_path / "first", {"clip": 9.0, "sd": 4.0})
    second = write_comparison(tmp_path / "second", {"sd": 5.0, "lora": 3.0}, samples=False)
    other = write_comparison(tmp_path / "other", {"sd": 7.0}, data="d2")
    sources = read_sources([first / "comparison.json", second, other])
    comparisons = sources.comparisons
    assert len(comparisons) == 2
    written, notes = write_tables(sources, tmp_path / "out")
    table = rows(tmp_path / "out" / "generators-1-d1" / "fid-is.csv")
    assert [row["generator"] for row in table] == [REAL, "clip", "first/sd", "second/sd", "lora"]
    assert len(rows(tmp_path / "out" / "generators-2-d2" / "fid-is.csv")) == 2
    assert any("do not belong in one table" in note for note in notes)
    assert any("samples.png: missing" in note for note in notes)
    again, _ = write_tables(sources, tmp_path / "again")
    for a, b in zip(written, again, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_the_confirmed_prompts_of_studies(run, tmp_path):
    sources = read_sources([run.folder])
    written, notes = write_tables(sources, tmp_path / "out", store=run.store, top=2)
    assert not notes
    prompts = read_prompts(run.folder / "prompts.json")
    table = rows(tmp_path / "out" / "prompts" / "prompts.csv")
    assert [row["prompt"] for row in table] == [entry.label for entry in prompts.prompts]
    for row, entry in zip(table, prompts.prompts, strict=True):
        for name, estimate in entry.confirmation.items():
            assert row[f"{name}:status"] == estimate.status
            value = row[f"{name}:value"]
            expected = None if estimate.value is None else pytest.approx(estimate.value, rel=1e-5)
            assert (float(value) if value else None) == expected
    assert sum(row["baseline"] == "True" for row in table) == 1
    latex = (tmp_path / "out" / "prompts" / "prompts.tex").read_text()
    assert len(columns(latex)) == 1
    assert latex.count(prompts.prompts[0].prompt) >= 1
    assert {path.name for path in written} == {
        "prompts.csv",
        "prompts.tex",
        "chart-scores.png",
        "samples.png",
        f"captions-{run.folder.name}.png",
    }
    with Image.open(tmp_path / "out" / "prompts" / "samples.png") as image:
        assert image.width > 8 * 128
        assert image.height > 2 * 128

    _, notes = write_tables(sources, tmp_path / "bare", store=tmp_path / "nowhere")
    assert any("--store" in note for note in notes)
    assert not (tmp_path / "bare" / "prompts" / "samples.png").exists()


def test_a_study_of_sets_has_tables_of_its_own(classified_sets, tmp_path):
    folder, store = classified_sets.folder, classified_sets.folder.parent.parent / "store"
    command = ["tables", str(folder), "--out", str(tmp_path / "out"), "--store", str(store), "--top", "1"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    out = tmp_path / "out" / "sets"
    assert {path.name for path in out.iterdir()} == {
        *("sets.csv", "sets.tex", "comparisons.csv", "sizes.csv", "methods.tex"),
        *("chart-closeness.png", "samples.png"),
    }
    with (out / "sets.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    sets = classified_sets.sets
    assert [row["prompt"] for row in rows] == [one.prompt for c in sets.classes for one in c.set.prompts]
    prompts, methods = ((out / name).read_text() for name in ("sets.tex", "methods.tex"))
    for entry in sets.classes:
        first, *rest = entry.set.prompts
        assert f"{entry.label} & {first.prompt} & {first.weight:.2f}" in prompts
        assert (f"and {len(rest)} more" in prompts) or not rest
        assert f"{1000 * entry.closeness['set'].value:.1f}".replace("-", "$-$") in methods
    assert f"{100 * sets.accuracy['real'].value:.1f}" in methods
    with Image.open(out / "samples.png") as image:
        assert image.height > 6 * 128  # three methods of two classes
    bare = write_tables(read_sources([folder]), tmp_path / "bare", store=tmp_path / "nowhere")
    assert any("--store" in note for note in bare[1])
    compile_tables([prompts, methods], tmp_path / "paper")


def test_the_cloud_of_captions_has_a_word_by_the_share_of_captions_that_hold_it(run, tmp_path):
    shares = word_shares(["a red, red square", "the Square on top", "blue", "square"])
    assert shares == {"blue": 0.25, "red": 0.25, "square": 0.75, "top": 0.25}
    assert word_shares([]) == {}
    (finished,) = read_sources([run.folder]).runs
    assert write_cloud(finished, tmp_path / "cloud.png")
    with Image.open(tmp_path / "cloud.png") as image:
        ink = np.asarray(image.convert("L")) < 128
    assert ink.any()
    assert not ink[:, -1].any()
    study = run.folder / "study.yaml"
    text = study.read_text()
    try:
        study.write_text(text.replace(str(run.data), str(tmp_path / "moved")))
        assert not write_cloud(finished, tmp_path / "none.png")
    finally:
        study.write_text(text)
    assert not (tmp_path / "none.png").exists()


def test_folders_that_are_neither_are_named(run, tmp_path):
    def refused(*paths: Path) -> str:
        done = CliRunner().invoke(main, ["tables", *map(str, paths), "--out", str(tmp_path / "out")])
        assert done.exit_code == 2
        assert not (tmp_path / "out").exists()
        return done.stderr

    (tmp_path / "empty").mkdir()
    said = refused(run.folder, tmp_path / "empty")
    assert "prompts.json" in said
    assert "comparison.json" in said
    assert "no such folder" in refused(tmp_path / "nowhere")
    assert "given 2 times" in refused(run.folder, run.folder)
    unfinished = Path(shutil.copytree(run.folder, tmp_path / "unfinished"))
    (unfinished / "prompts.json").unlink()
    assert "not finished" in refused(unfinished)
    (tmp_path / "empty" / "comparison.json").write_text('{"format": "promptopt-generator-comparison"}')
    assert "not a comparison" in refused(tmp_path / "empty")
    with pytest.raises(TablesError, match="no folder"):
        read_sources([])


@pytest.mark.slow
def test_the_command_lists_what_it_wrote(run, tmp_path):
    folder = write_comparison(tmp_path / "cmp", {"sd": 4.0})
    done = CliRunner().invoke(
        main,
        ["tables", str(run.folder), str(folder), "--store", str(run.store), "--out", str(tmp_path / "out")],
    )
    assert done.exit_code == 0, done.output
    for line in done.stdout.splitlines():
        assert Path(line).is_file()
    assert "Warning: a note" in done.stderr
