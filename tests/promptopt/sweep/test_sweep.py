"""Many studies from one file."""

import csv
import json
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from promptopt.cli.main import main
from promptopt.config.study_file import StudyError
from promptopt.study.observer import Observer
from promptopt.study.run import run_study
from promptopt.sweep.file import SweepError, load_sweep
from promptopt.sweep.running import SweepRunner
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, study, write_squares


def written(folder: Path, over: dict[str, Any], **changes: Any) -> Path:
    small = {"search": {"trials": 2, "images": 4, "racing": False}, "confirm": {"top": 1, "images": 4}}
    content = {"name": "two", "study": study(folder, **small, **changes), "over": over}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@contextmanager
def watching(_: object) -> Any:
    yield Observer()


@pytest.mark.slow
def test_runs_are_made_skipped_and_failed_ones_named(tmp_path: Path) -> None:
    write_squares(tmp_path / "data", each=10)
    sweep = load_sweep(written(tmp_path, {"seed": [5, 6]}))
    assert [one.name for one in sweep.variants] == ["two-seed5", "two-seed6"]
    made: list[str] = []
    failures: list[str] = []

    def run(config: Any, *, makers: Any, **words: Any) -> Any:
        made.append(config.name)
        if config.seed == 5 and len(made) == 1:
            raise RuntimeError("the machine had enough")
        return run_study(config, generator=SquareGenerator(), encoder=ColorEncoder(), **words)

    place = partial(
        SweepRunner, sweep, tmp_path / "out", runs=tmp_path / "runs", store=tmp_path / "store", device="cpu"
    )
    first = place()
    assert {one.state for one in first.planned()} == {"new"}
    assert sum(one.images for one in first.planned()) == 2 * (3 * 4 + 2 * 4)
    said = first.run(observer=watching, on_failure=lambda _, why: failures.append(why), run=run)
    assert [one.state for one in said] == ["failed", "finished"]
    assert "had enough" in failures[0]
    said = place().run(observer=watching, on_failure=lambda _, why: failures.append(why), run=run)
    assert made == ["two-seed5", "two-seed6", "two-seed5"]
    assert [one.state for one in said] == ["finished", "finished"]
    assert [one.images > 0 for one in said] == [True, True]
    with (tmp_path / "out" / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["seed"], row["state"]) for row in rows] == [("5", "finished"), ("6", "finished")]
    assert all(row["best prompt"] for row in rows)
    assert [one["name"] for one in json.loads((tmp_path / "out" / "sweep.json").read_text())["runs"]] == [
        "two-seed5",
        "two-seed6",
    ]
    assert sum(one.images for one in place().planned()) == 0


def test_what_an_interrupted_run_made_is_counted(tmp_path: Path) -> None:
    sweep = load_sweep(written(tmp_path, {"seed": [5, 6]}))

    def run(config: Any, *, observer: Observer, **_: Any) -> Any:
        observer.on_image(True)
        observer.on_class_image("red", True)
        observer.on_image(False)
        raise KeyboardInterrupt

    for images in (2, 4):
        runner = SweepRunner(sweep, tmp_path / "out", runs=tmp_path / "runs", store=tmp_path / "store")
        with pytest.raises(KeyboardInterrupt):
            runner.run(observer=watching, on_failure=lambda *_: None, run=run)
        first, second = json.loads((tmp_path / "out" / "sweep.json").read_text())["runs"]
        assert (first["images"], second["images"]) == (images, 0)


def test_keys_that_change_together_have_a_label(tmp_path: Path) -> None:
    over = {
        "size": {"few": {"search.trials": 2}, "many": {"search.trials": 4, "seed": 9}},
        "confirm.top": [1],
    }
    variants = load_sweep(written(tmp_path, over)).variants
    assert [one.name for one in variants] == ["two-few-top1", "two-many-top1"]
    assert (variants[1].config.search.trials, variants[1].config.seed) == (4, 9)


def test_a_key_is_set_in_all_runs_unless_they_differ_in_it(tmp_path: Path) -> None:
    path = written(tmp_path, {"seed": [5, 6]})
    variants = load_sweep(path, changes={"search.trials": 3}).variants
    assert [(one.config.seed, one.config.search.trials) for one in variants] == [(5, 3), (6, 3)]
    for key in ("seed", "name"):
        with pytest.raises(SweepError, match=f"{key}: cannot be set for all runs"):
            load_sweep(path, changes={key: 7})
    refused = CliRunner().invoke(main, ["sweep", str(path), "--dry-run", "--set", "search.trails=3"])
    assert refused.exit_code == 2
    assert "did you mean" in refused.output


@pytest.mark.parametrize(
    ("over", "error", "says"),
    [
        ({"name": ["a"]}, SweepError, r"over\.name: cannot be varied"),
        ({"seed": []}, SweepError, r"over\.seed: has no values"),
        ({"seed": [1, 1]}, SweepError, "a value twice"),
        ({"seed": ["x"]}, StudyError, "the run two-x: .*seed"),
        ({"sede": [1]}, StudyError, "unknown key"),
    ],
)
def test_what_cannot_be_run_is_refused_by_its_key(tmp_path: Path, over: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        load_sweep(written(tmp_path, over))


def test_a_dry_run_lists_the_runs_and_their_images(tmp_path: Path) -> None:
    path = written(tmp_path, {"seed": [5, 6]})
    words = [
        "sweep",
        str(path),
        "--dry-run",
        "--runs",
        str(tmp_path / "runs"),
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "two-seed5" in done.output
    assert "At most 40 images" in done.output
    assert not (tmp_path / "out").exists()


def test_jobs_of_slurm_are_refused_before_the_first_run(tmp_path: Path) -> None:
    path = written(tmp_path, {"seed": [5, 6]})
    done = CliRunner().invoke(
        main, ["sweep", str(path), "--out", str(tmp_path / "out"), "--on", "slurm:gpu?jobs=2"]
    )
    assert done.exit_code == 2
    assert "--on slurm is for images in bulk" in done.output
    assert not (tmp_path / "out").exists()
