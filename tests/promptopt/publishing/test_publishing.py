"""Runs in a team's database, which is an SQLite file here."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from typer.testing import CliRunner

from promptopt.cli.main import main
from promptopt.publishing.copying import content
from promptopt.publishing.database import Database
from promptopt.publishing.observer import Publishing
from promptopt.publishing.publisher import Publisher
from promptopt.publishing.target import PublishError, Target, TargetError
from promptopt.publishing.watching import watch
from promptopt.run.database import address
from tests.promptopt.publishing.growing import GrowingRun


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target.parse(f"sqlite:///{tmp_path}/team.db")


def trials(url: str, name: str) -> list[str]:
    return [content(one) for one in optuna.load_study(study_name=name, storage=url).get_trials()]


def own(run: GrowingRun) -> list[str]:
    return trials(address(run.folder / "study.db"), "red")


def test_a_growing_run_is_copied_whole_and_only_what_changed_is_written(
    tmp_path: Path, target: Target
) -> None:
    run = GrowingRun(tmp_path / "runs" / "squares")
    run.grow()
    with Publisher(target, user="anna") as publisher:
        first = publisher.update(run.folder)
        assert [(one.name, one.added) for one in first.studies] == [("anna/squares/red", 2)]
        again = publisher.update(run.folder)
        assert (again.added, again.changed) == (0, 0)
        run.grow()
        grown = publisher.update(run.folder)
        assert (grown.added, grown.changed) == (2, 1)
        run.finish()
        publisher.update(run.folder)
        assert trials(target.address, "anna/squares/red") == own(run)
        run.grow()  # goes on with a larger budget: finished trials run again
        publisher.update(run.folder)
        assert trials(target.address, "anna/squares/red") == own(run)


@pytest.mark.slow
def test_a_dropped_database_comes_back_and_a_comment_is_kept_until_then(
    tmp_path: Path, target: Target
) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    run = GrowingRun(tmp_path / "runs" / "squares")
    run.grow()
    with Publisher(target, user="anna") as publisher:
        publisher.update(run.folder)
    name = "anna/squares/red"
    study = optuna.load_study(study_name=name, storage=target.address)
    assert "squares" in dashboard.get_note(study)
    dashboard.save_note(study, "mine")
    with Publisher(target) as publisher:
        publisher.update(run.folder)
        assert dashboard.get_note(study) == "mine"
    (tmp_path / "team.db").unlink()
    with Publisher(target) as publisher:
        publisher.update(run.folder)
    study = optuna.load_study(study_name=name, storage=target.address)
    assert "squares" in dashboard.get_note(study)
    assert trials(target.address, name) == own(run)


def test_two_runs_of_one_name_stay_apart(tmp_path: Path, target: Target) -> None:
    one, two = GrowingRun(tmp_path / "a" / "squares"), GrowingRun(tmp_path / "b" / "squares")
    one.grow()
    two.grow()
    with Publisher(target, user="anna") as publisher:
        names = [publisher.update(run.folder).studies[0].name for run in (one, two)]
        assert names[0] == "anna/squares/red"
        assert names[1].startswith("anna/squares/red (")
        moved = one.folder.rename(tmp_path / "a" / "renamed")
        assert publisher.update(moved).studies[0].name == names[0]  # the uuid decides
        assert publisher.update(moved).added == 0


def test_trials_of_another_run_are_refused(tmp_path: Path, target: Target) -> None:
    run = GrowingRun(tmp_path / "a" / "squares")
    run.grow()
    with Publisher(target, user="anna") as publisher:
        publisher.update(run.folder)
        kept = (run.folder / "run.json").read_text()
        shutil.rmtree(run.folder)
        other = GrowingRun(run.folder)
        other.grow()
        (other.folder / "run.json").write_text(kept)
        with pytest.raises(PublishError, match=r"another run.*remove its run\.json"):
            publisher.update(other.folder)


def test_one_that_waits_for_another_publishes_what_the_run_has_by_then(
    tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = GrowingRun(tmp_path / "runs" / "squares")
    run.grow()
    with Publisher(target, user="anna") as first, Publisher(target, user="anna") as second:
        original = Database.updating

        def waiting(self: Database, key: str) -> Any:
            if self is first._database:  # the other one has the lock, and the run goes on
                run.grow()
                run.finish()
                second.update(run.folder)
            return original(self, key)

        monkeypatch.setattr(Database, "updating", waiting)
        assert first.update(run.folder).changed == 0
    assert trials(target.address, "anna/squares/red") == own(run)


def test_no_password_is_shown() -> None:
    target = Target("", "")
    for text in ("postgresql://u:s%40cret@h/db", "postgresql://u@h/db?password=s%40cret"):
        pytest.importorskip("psycopg")
        target = Target.parse(text)
        shown = [str(target), repr(target), target.for_optuna, target.hide("s@cret or s%40cret")]
        assert not any("cret" in one for one in shown), shown
        assert "s%40cret" in target.address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense:secret", "no address"),
        ("mysql://u:secret@h/db", "'mysql'"),
        ("sqlite://", "no file"),
    ],
)
def test_other_addresses_are_refused_without_their_password(text: str, says: str) -> None:
    with pytest.raises(TargetError, match=says) as refused:
        Target.parse(text)
    assert "secret" not in str(refused.value)


def test_a_study_goes_on_without_its_database_and_says_what_to_run(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    run = GrowingRun(tmp_path / "squares")
    run.grow()
    nowhere = Target.parse("postgresql://anna:secret@127.0.0.1:1/team")
    said: list[str] = []
    with Publishing(run.folder, nowhere, on_trouble=said.append, seconds=0.01) as publishing:
        publishing.on_step(None)  # type: ignore[arg-type]
    assert f"promptopt publish {run.folder} --to" in said[-1]
    assert not any("secret" in one for one in said)
    assert not any(b"secret" in path.read_bytes() for path in run.folder.iterdir())


def test_watching_ends_with_the_run_and_outlives_a_failure(tmp_path: Path, target: Target) -> None:
    run = GrowingRun(tmp_path / "squares")
    run.grow()
    blocker = tmp_path / "team.db"
    blocker.mkdir()  # no database can be made here
    found: list[Any] = []
    said: list[str] = []

    def sleep(_: float) -> None:
        blocker.rmdir()
        sleeps.append(1)

    sleeps: list[int] = []
    with Publisher(target, user="anna") as publisher:
        original = publisher.update

        def update(folder: Path) -> Any:
            one = original(folder)
            return type(one)(one.folder, one.studies, True)  # as if prompts.json were there

        publisher.update = update  # type: ignore[method-assign]
        watch(
            publisher,
            [run.folder],
            seconds=0,
            on_update=found.append,
            on_trouble=said.append,
            sleep=sleep,
        )
    assert len(said) == len(found) == len(sleeps) == 1
    assert found[0].added == 2


def test_the_command_publishes_and_names_the_dashboard(tmp_path: Path) -> None:
    run = GrowingRun(tmp_path / "squares")
    run.grow()
    words = ["publish", str(run.folder), "--to", f"sqlite:///{tmp_path}/team.db", "--user", "anna"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "anna/squares/red: 2 trials, 2 added" in done.output
    assert "optuna-dashboard sqlite:///" in done.output
    assert json.loads((run.folder / "run.json").read_text())["user"] == "anna"
    with sqlite3.connect(tmp_path / "team.db") as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (2,)
    refused = CliRunner().invoke(main, ["publish", str(run.folder), "--to", "mysql://h/db"])
    assert refused.exit_code == 2
