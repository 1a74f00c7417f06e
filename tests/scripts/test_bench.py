"""Scripts under scripts/bench that can be run, or looked into, in seconds."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import postgres

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(BENCH / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_templates_of_another_project_are_read_by_both_and_counted(tmp_path: Path) -> None:
    pytest.importorskip("dynamicprompts", reason="is a dependency of development")
    lists = tmp_path / "test_data" / "wildcards"
    lists.mkdir(parents=True)
    (lists / "tone.txt").write_text("red\npink\n")
    (tmp_path / "test_some.py").write_text(
        '"""What {this|that} says is no template."""\n'
        'ALIKE = ["a {b|c}", "a __tone__ {d|}", "{2$$a|b|c}", "__other(v=1)__x"]\n'
        'BOTH_REFUSE = "{a|b"\n'
        'OURS_REFUSES = ["{~a|b}", "a } b"]\n'
        'JINJA = "{% choice %}"\n'
    )
    said = run("template_language.py", tmp_path, "--differ")
    assert "7 templates" in said
    assert "agree: 3" in said
    assert "refused alike: 1" in said
    assert "  a way of sampling: 1" in said
    assert "  a brace outside of its pair: 1" in said
    assert "refused: '__other(v=1)__x'" in said.replace('"', "'")  # no option uses v


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl"])
def test_architectures_have_as_many_weights_as_published(name: str) -> None:
    import architectures

    with torch.device("meta"):
        networks = architectures.build_networks(name)
    counts = tuple(sum(p.numel() for p in network.parameters()) for network in networks.values())
    assert counts == architectures.ARCHITECTURES[name].parameters


@pytest.mark.slow
def test_the_script_for_gpus_runs_on_a_tiny_model_and_a_cpu() -> None:
    said = run("gpu.py", "--cpu-smoke")
    assert "a trial, no measurement" in said
    assert said.count("| right |") == 2  # float32 and bfloat16 against the CPU in float32
    assert "diffusers, a call an image | bfloat16, 1 |" in said
    assert "8 made, 4 a pass at the end" in said
    assert "promptopt train sd |" in said
    assert "WRONG" not in said


def test_an_image_that_is_wrong_fails_the_script_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu
    import numpy as np

    bench = gpu.Bench(Path(), torch.device("cpu"), steps=1, batch=1, until=0, smoke=True)
    bench.rates = {"float32": 1.0, "bfloat16": 1.0}
    levels = iter([100, 100, 130])  # the reference, then each number format
    monkeypatch.setattr(gpu.Bench, "load", lambda self, dtype, **rest: None)
    monkeypatch.setattr(gpu, "drawn", lambda generator, steps: np.full((1, 4, 4, 3), next(levels)))
    gpu.correctness(bench)
    assert bench.failed == ["images in bfloat16 are off by 30.0"]


def test_a_newcomer_begins_in_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    command = [sys.executable, str(BENCH / "newcomers" / "laptop.py"), "--small", "--work", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_the_engineer_gets_from_a_checkpoint_file_to_a_study(tmp_path: Path) -> None:
    said = run("newcomers/engineer.py", "--small", "--work", tmp_path / "new")
    assert "work/try/sheet.png after" in said
    assert "| `promptopt study show runs/posters` |" in said
    assert (tmp_path / "new" / "runs" / "posters" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_every_command_is_measured_over_simulated_makers(tmp_path: Path) -> None:
    said = run("scale.py", "--smoke", "--work", tmp_path / "scale")
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in said.splitlines()}
    for command, images in (("study", 64), ("study: search alone", 64), ("synthesize", 64), ("augment", 64)):
        assert int(rows[command][0]) >= images
        assert float(rows[command][1]) > 0
    milliseconds = {name: float(row[0]) for name, row in rows.items() if name.startswith("level ")}
    assert milliseconds["level 1, run lengths"] < milliseconds["level 6, Pillow's default"]


@pytest.mark.slow
@pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))
def test_nothing_is_lost_in_a_teams_database() -> None:
    rows = [line.split("|")[1:-1] for line in run("team_database.py", "--smoke").splitlines()]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows[2:]}
    assert list(cells) == ["at once", "restarts", "drop"]
    for _, trials, values, *_, lost, too_many, _, _ in cells.values():
        assert (int(trials), lost, too_many) == (12, "0", "0")
        assert int(values) > 12
    assert int(cells["restarts"][4]) >= 3  # each publisher met the server that was down


@pytest.mark.slow
def test_a_row_that_is_lost_or_one_too_many_is_counted(
    tmp_path: Path, postgres_server: postgres.Server
) -> None:
    psycopg = pytest.importorskip("psycopg")
    import team_database

    from promptopt.publishing.publisher import Publisher
    from promptopt.publishing.target import Target
    from tests.promptopt.publishing.growing import GrowingRun

    target, grown = Target.parse(postgres_server.database("counted")), GrowingRun(tmp_path / "run")
    grown.grow()
    with Publisher(target) as publisher:
        publisher.update(grown.folder)
    rows = team_database.compare(target, [grown.folder])
    assert (rows.trials, rows.lost, rows.too_many) == (2, 0, 0)
    with psycopg.connect(str(target)) as connection:
        connection.execute("UPDATE trial_intermediate_values SET intermediate_value = 7 WHERE trial_id = 1")
        connection.execute(
            "INSERT INTO trials (number, study_id, state) SELECT 0, study_id, 'FAIL' FROM studies"
        )
    rows = team_database.compare(target, [grown.folder])
    assert (rows.trials, rows.lost, rows.too_many) == (2, 1, 2)
