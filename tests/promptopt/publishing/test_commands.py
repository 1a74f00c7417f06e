"""`study run --publish` and `sweep --publish`, to a file and to a PostgreSQL that goes away meanwhile."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from typer.testing import CliRunner

from promptopt.cli._live import LiveStudy
from promptopt.cli.main import main
from promptopt.publishing import observer
from promptopt.publishing.copying import content
from promptopt.publishing.target import Target
from promptopt.run.database import address
from promptopt.study import opening
from tests.postgres import Server
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, study, write_squares

Hook = Callable[[str, Callable[..., None]], None]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands run in `tmp_path` over colored squares, and publish as often as they can."""
    monkeypatch.setattr(opening, "open_generator", lambda *_, **__: SquareGenerator())
    monkeypatch.setattr(opening, "open_encoder", lambda *_, **__: ColorEncoder())
    often = functools.partial(observer.Publishing, seconds=0.01, patience=600)
    monkeypatch.setattr(observer, "Publishing", often)
    monkeypatch.setattr(observer, "_SHARE", 0.0)
    monkeypatch.setenv("PROMPTOPT_USER", "anna")
    monkeypatch.chdir(tmp_path)
    write_squares(tmp_path / "data", each=10)
    small = {"search": {"trials": 6, "images": 4, "racing": False}, "confirm": {"top": 1, "images": 4}}
    Path("study.yaml").write_text(yaml.safe_dump(study(tmp_path, **small)))
    Path("sweep.yaml").write_text("name: two\nstudy: study.yaml\nover: {seed: [5, 6]}\n")


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Hook:
    """Calls a function before an event of the study reaches the display, which comes before publishing."""

    def hook(event: str, call: Callable[..., None]) -> None:
        original = getattr(LiveStudy, event)

        def wrapped(self: LiveStudy, *words: Any) -> None:
            call(*words)
            original(self, *words)

        monkeypatch.setattr(LiveStudy, event, wrapped)

    return hook


def call(*words: str) -> str:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(main, words)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def trials(url: str, name: str) -> list[str]:
    return [content(one) for one in optuna.load_study(study_name=name, storage=url).get_trials()]


def published(url: str, run: str) -> bool:
    """Whether all six trials of a run are in the database as they are in its folder."""
    own = trials(address(Path("runs") / run / "study.db"), run)
    return len(own) == 6 and trials(Target.parse(url).address, f"anna/{run}") == own


def until(true: Callable[[], object]) -> None:
    ends = time.monotonic() + 300
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def rows(url: str) -> int:
    """Trials in the database, which may have no tables yet."""
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(url) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM trials").fetchone()[0])
        except psycopg.errors.UndefinedTable:
            return 0


@pytest.mark.slow
def test_a_sweep_publishes_itself_into_a_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/team.db"
    assert "Warning" not in call("sweep", "sweep.yaml", "--publish", url)
    assert published(url, "two-seed5")
    assert published(url, "two-seed6")


@pytest.mark.slow
def test_a_study_outlives_its_database_and_catches_up(postgres_server: Server, before: Hook) -> None:
    url = postgres_server.database("outlived")
    warned: list[str] = []
    numbers: list[int] = []

    def on_trial(row: Any, _: Any) -> None:
        numbers.append(row.number)
        if len(numbers) == 2:
            until(lambda: rows(url))  # the first is there
            postgres_server.stop()
        if len(numbers) == 4:
            until(lambda: warned)
            postgres_server.start()

    before("on_trial", on_trial)
    before("on_warning", warned.append)
    said = call("study", "run", "study.yaml", "--publish", url)
    assert "Warning: Publishing failed, and is tried again while the study goes on" in said
    assert "Not all of" not in said
    assert published(url, "red-squares")


@pytest.mark.slow
def test_a_sweep_whose_database_goes_away_names_the_command_for_the_run_that_is_missing(
    postgres_server: Server, before: Hook
) -> None:
    url = postgres_server.database("swept")

    def on_start(start: Any) -> None:
        if start.name == "two-seed6":
            postgres_server.stop()

    before("on_start", on_start)
    said = call("sweep", "sweep.yaml", "--publish", url)
    postgres_server.start()
    assert "Warning: Publishing failed" in said
    assert f"To publish the rest: promptopt publish runs/two-seed6 --to {url}" in said
    assert published(url, "two-seed5")
    call("publish", "runs/two-seed6", "--to", url)
    assert published(url, "two-seed6")
