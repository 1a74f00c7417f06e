"""A damaged study.db, whatever happened to it: one message with the remedy, and no search on half of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from promptopt.config.study_file import StudyError
from promptopt.run.database import open_storage
from promptopt.run.set_log import LoggedLook, SetLog
from promptopt.run.set_progress import read_set_progress
from promptopt.run.snapshot import read_studies
from promptopt.run.trials import TrialLog
from tests.promptopt.search.test_engine import SPACE, Table, search

Damage = Callable[[Path], None]


def _sql(text: str, *values: object) -> Damage:
    def run(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            assert connection.execute(text, values).rowcount != 0

    return run


def _cut(share: float) -> Damage:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def _overwritten(start: int, content: bytes) -> Damage:
    def run(path: Path) -> None:
        with path.open("r+b") as stream:
            stream.seek(start)
            stream.write(content)

    return run


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE notes (text)")


def _edited(key: str, change: Callable[[object], object]) -> Damage:
    """An attribute of the first trial, edited in place."""

    def run(path: Path) -> None:
        where = "WHERE trial_id = 1 AND key = ?"
        with closing(sqlite3.connect(path)) as connection, connection:
            found = connection.execute(f"SELECT value_json FROM trial_user_attributes {where}", [key])
            new = json.dumps(change(json.loads(found.fetchone()[0])))
            connection.execute(f"UPDATE trial_user_attributes SET value_json = ? {where}", [new, key])

    return run


def _first_row(**changes: object) -> Callable[[object], object]:
    return lambda rows: [{**rows[0], **changes}, *rows[1:]]  # type: ignore[index]


ANY: dict[str, Damage] = {
    "empty": lambda path: path.write_bytes(b""),
    "a folder": _folder,
    "text": lambda path: path.write_text("trials\n" * 999),
    "random bytes": lambda path: path.write_bytes(os.urandom(50_000)),
    "random bytes behind the header": _overwritten(100, os.urandom(4000)),
    "random bytes in the middle": _overwritten(60_000, os.urandom(9000)),
    "the first page alone": lambda path: os.truncate(path, 4096),
    "half": _cut(0.5),
    "nearly all": _cut(0.97),
    "another program's": _another_program,
    "no trials table": _sql("DROP TABLE trials"),
    "no attributes table": _sql("DROP TABLE trial_user_attributes"),
    "no version": _sql("DROP TABLE version_info"),
    "another version": _sql("UPDATE version_info SET schema_version = 3"),
    "an unknown revision": _sql("UPDATE alembic_version SET version_num = 'v9.9.9.z'"),
    "trials of no study": _sql("DELETE FROM studies"),
    "trials that are gone": _sql("DELETE FROM trials WHERE trial_id = 1"),
    "a state that does not exist": _sql("UPDATE trials SET state = 'DONE' WHERE trial_id = 1"),
    "attributes that are no JSON": _sql(
        "UPDATE trial_user_attributes SET value_json = '{' WHERE trial_id = 1"
    ),
    "a date that is none": _sql("UPDATE trials SET datetime_start = 'soon' WHERE trial_id = 1"),
    "a candidate that is a number": _edited("candidate", lambda _: 3),
    "another candidate": _edited("candidate", lambda _: {"prompt": "a blue circle"}),
    "params of another kind": _sql("UPDATE trial_params SET param_value = 'x' WHERE trial_id = 1"),
}
SINGLE: dict[str, Damage] = {
    "rows that are text": _edited("rows", lambda _: "rows"),
    "a row without its keys": _edited("rows", lambda rows: [{"number": rows[0]["number"]}]),  # type: ignore[index]
    "a score of another type": _edited("rows", _first_row(score="high")),
    "a better score": _edited("rows", _first_row(seconds=1.5)),
    "a row twice": _edited("rows", lambda rows: [*rows, *rows]),  # type: ignore[misc]
    "a row less": _edited("rows", lambda rows: []),
}
SETS: dict[str, Damage] = {
    "no candidate": _sql("DELETE FROM trial_user_attributes WHERE key = 'candidate' AND trial_id = 1"),
    "looks that are text": _edited("looks", lambda _: "looks"),
    "a look too short": _edited("looks", lambda looks: [looks[0][:3]]),  # type: ignore[index]
    "images of another type": _edited("looks", lambda looks: [[0, 0, 2, "4"]]),
    "other images": _edited("looks", lambda looks: [[0, 0, 2, 6]]),
    "another step": _edited("looks", lambda looks: [[7, 0, 2, 4]]),
}


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("single") / "study.db"
    search(trials=6, racing=False).run(TrialLog(path, name="one", space=SPACE), Table())
    return path


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sets") / "study.db"
    choices = list(SPACE.enumerate())[:3]
    a, b, c = (SPACE.candidate(choice) for choice in choices)
    values = {a: 0.5, b: 0.1, c: -0.2}
    log = SetLog(path, label="polyp", space=SPACE)
    log.add([LoggedLook(a, choices[0], 4), LoggedLook(b, choices[1], 4)], values)
    log.add([LoggedLook(a, choices[0], 8), LoggedLook(c, choices[2], 4)], values)
    log.finish(values, {a: 1.0})
    return path


def _refused(path: Path, opened: Callable[[], object]) -> None:
    with pytest.raises(StudyError) as caught:
        opened()
    message = str(caught.value)
    assert str(path) in message
    assert "cannot be trusted" in message
    assert "under another name (--name)" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", [*ANY, *SINGLE])
def test_a_search_for_a_prompt_does_not_go_on_from_it(name: str, single: Path, tmp_path: Path) -> None:
    path = shutil.copy(single, tmp_path)
    {**ANY, **SINGLE}[name](Path(path))
    _refused(path, lambda: TrialLog(path, name="one", space=SPACE))
    if name != "a folder":  # then there is no run
        _refused(path, lambda: read_studies(tmp_path))


@pytest.mark.parametrize("name", [*ANY, *SETS])
def test_a_search_for_a_set_does_not_go_on_from_it(name: str, sets: Path, tmp_path: Path) -> None:
    path = shutil.copy(sets, tmp_path)
    {**ANY, **SETS}[name](Path(path))
    _refused(path, lambda: SetLog(path, label="polyp", space=SPACE))
    for look in (read_studies, read_set_progress):
        with suppress(StudyError):  # who only looks on may be content with less, but has no other error
            look(tmp_path)


def test_an_undamaged_one_is_read(single: Path, sets: Path) -> None:
    assert len(TrialLog(single, name="one", space=SPACE).rows) == 6
    assert [len(step) for step in SetLog(sets, label="polyp", space=SPACE).steps] == [2, 2]
    assert len(read_studies(single.parent)[0].rows) == 6
    progress = read_set_progress(sets.parent)
    assert progress is not None
    assert progress[0].images == 16


_KILLED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(f"PRAGMA journal_mode = {sys.argv[2]}")
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN")
connection.execute("UPDATE trial_user_attributes SET value_json = value_json || zeroblob(20000)")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_what_a_killed_process_left_half_written_is_undone(mode: str, single: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(single, tmp_path))
    done = subprocess.run([sys.executable, "-c", _KILLED, str(path), mode], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) > 1  # a journal is left over
    assert len(read_studies(tmp_path)[0].rows) == 6
    assert len(TrialLog(path, name="one", space=SPACE).rows) == 6


def test_a_journal_of_something_else_does_no_harm(single: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(single, tmp_path))
    for end in ("-wal", "-journal", "-shm"):
        path.with_name(path.name + end).write_bytes(os.urandom(9000))
    assert len(TrialLog(path, name="one", space=SPACE).rows) == 6


def test_a_new_one_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.storages, "RDBStorage", dying)
        with pytest.raises(KeyboardInterrupt):
            TrialLog(tmp_path / "study.db", name="one", space=SPACE)
    assert not list(tmp_path.iterdir())
    assert TrialLog(tmp_path / "study.db", name="one", space=SPACE).rows == []


def test_a_disk_that_fills_up_while_trials_are_written_is_said(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    storage = open_storage(path)
    study = optuna.create_study(storage=storage, study_name="one")
    storage.engine.dispose()

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {path.stat().st_size // 4096}")

    sqlalchemy.event.listen(storage.engine, "connect", limit)
    with pytest.raises(StudyError, match=f"{tmp_path}: the disk is full. Free some space"):
        study.set_user_attr("rows", "x" * 200_000)
