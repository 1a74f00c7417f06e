"""A team's database: is a trial or a value lost or written twice by many publishers, restarts and a drop?

    python scripts/bench/team_database.py [--runs 4] [--steps 60] [--publishers 3] [--restarts 5] [--smoke]

PostgreSQL is started on 127.0.0.1 in a folder of its own (apt-get install postgresql; any user but root, or
root with setpriv). Runs grow step by step, two prompts a step and a further look at an earlier one, written
by the search's own log; no image is made.

- at once: so many publishers watch all runs from their first step to their last.
- restarts: the same with other runs, while the server is ended as by a crash and started again, so often. It
  stays down until each publisher has failed.
- drop: the first database is dropped, made anew, and one publisher publishes the first runs.

Then the rows of every table are read from the run folders' files and from the server, by plain SQL, and
compared: "lost" rows stand in a run folder alone, "too many" in the database alone, or there once more.
Trials are those of the run folders, values their parameters, results and attributes. Processor seconds are
those of all publishers together, without the server's. The exit status is 1 where a row is lost or one too
many, and 2 where PostgreSQL cannot be started. With --smoke everything is tiny, and the times mean nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "HF_HUB_OFFLINE"):
    os.environ.setdefault(_name, "1")  # a fork of a process whose libraries run threads may hang
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from promptopt.publishing.publisher import PublishedRun, Publisher  # noqa: E402
from promptopt.publishing.target import PublishError, Target  # noqa: E402
from promptopt.publishing.watching import publish, watch  # noqa: E402
from promptopt.run.identity import run_identity  # noqa: E402
from tests import postgres  # noqa: E402
from tests.promptopt.publishing.growing import GrowingRun  # noqa: E402

_LIMIT = 300.0  # seconds to wait for publishers
_PAUSE = 0.2  # seconds between looks of a publisher
_TABLES = {
    "trials": "state, datetime_start, datetime_complete",
    "trial_values": "objective, value, value_type",
    "trial_intermediate_values": "step, intermediate_value, intermediate_value_type",
    "trial_params": "param_name, param_value, distribution_json",
    "trial_user_attributes": "key, value_json",
    "trial_system_attributes": "key, value_json",
}
_processes = multiprocessing.get_context("fork")


class _StoppedError(Exception):
    pass


class Publishers:
    """Processes that watch runs until the block ends, and then publish each once more.

    Args:
        folders: of the runs, which need not be there yet.
    """

    def __init__(self, count: int, target: Target, folders: list[Path]) -> None:
        self._target, self._folders = target, folders
        self._stop = _processes.Event()
        self._failures = [_processes.Value("i", 0) for _ in range(count)]
        self._cpu = [_processes.Value("d", 0.0) for _ in range(count)]
        self._all = [
            _processes.Process(target=self._work, args=pair)
            for pair in zip(self._failures, self._cpu, strict=True)
        ]

    def __enter__(self) -> Publishers:
        for one in self._all:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._all:
            one.join(_LIMIT)
            one.kill()
        if codes := [one.exitcode for one in self._all if one.exitcode != 0]:
            raise RuntimeError(f"publishers ended with {codes}")

    @property
    def cpu(self) -> float:
        """Processor seconds of those that have ended."""
        return float(sum(one.value for one in self._cpu))

    @property
    def failures(self) -> list[int]:
        """Updates of each that failed."""
        return [one.value for one in self._failures]

    def wait_for_failures(self, before: list[int]) -> None:
        """Until each of them has failed again."""
        ends = time.monotonic() + _LIMIT
        while any(now <= old for now, old in zip(self.failures, before, strict=True)):
            if time.monotonic() > ends:
                raise RuntimeError("a publisher does not notice that the server is down")
            time.sleep(0.01)

    def _work(self, failures: Synchronized[int], cpu: Synchronized[float]) -> None:
        said: set[str] = set()

        class Counting(Publisher):
            def update(self, run: Path) -> PublishedRun:
                try:
                    return super().update(run)
                except PublishError as error:
                    failures.value += 1
                    if str(error) not in said:
                        print(error, file=sys.stderr, flush=True)
                    said.add(str(error))
                    raise

        def sleep(seconds: float) -> None:
            if self._stop.wait(seconds):
                raise _StoppedError

        def ignore(_: object) -> None:
            return

        with Counting(self._target, user="team") as publisher:
            try:
                watch(
                    publisher, self._folders, seconds=_PAUSE, on_update=ignore, on_trouble=ignore, sleep=sleep
                )
            except _StoppedError:
                publish(publisher, self._folders, attempts=10)
        cpu.value = time.process_time()  # since the fork


@dataclass(frozen=True)
class Compared:
    """Rows of run folders, and those of the database that do not fit."""

    trials: int
    values: int
    lost: int
    too_many: int


def compare(target: Target, folders: list[Path]) -> Compared:
    """Every row of the run folders against those of the database."""
    import psycopg

    trials = values = lost = 0
    with psycopg.connect(str(target)) as there:
        too_many = abs(_count(there, "studies") - len(folders))
        for folder in folders:
            uuid = json.dumps(run_identity(folder).uuid)
            study = f"SELECT study_id FROM study_user_attributes WHERE key = 'uuid' AND value_json = '{uuid}'"
            with closing(sqlite3.connect(folder / "study.db")) as here:
                for table in _TABLES:
                    own = _rows(here, table, "SELECT study_id FROM studies")
                    copied = _rows(there, table, study)
                    lost += (own - copied).total()
                    too_many += (copied - own).total()
                    if table == "trials":
                        trials += own.total()
                    else:
                        values += own.total()
    return Compared(trials, values, lost, too_many)


def _count(connection: Any, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def _rows(connection: Any, table: str, studies: str) -> Counter[tuple[Any, ...]]:
    columns = ", ".join(f"v.{name}" for name in _TABLES[table].split(", "))
    query = (
        f"SELECT t.number, {columns} FROM {table} v JOIN trials t ON t.trial_id = v.trial_id "
        f"WHERE t.study_id IN ({studies})"
    )
    return Counter(tuple(map(_plain, row)) for row in connection.execute(query).fetchall())


def _plain(value: Any) -> Any:
    """SQLite has times as text."""
    return value.isoformat(" ", "microseconds") if isinstance(value, datetime) else value


class Bench:
    """The three claims, a row of the table each."""

    def __init__(self, options: argparse.Namespace, server: postgres.Server, work: Path) -> None:
        self._options, self._server, self._work = options, server, work
        self.failed = False
        print(
            "| | runs | trials | values | publishers | failed updates | lost | too many | seconds "
            "| processor, s |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
        )

    def growing(self, name: str, *, restarts: int) -> None:
        """Publishers watch runs that grow, while the server is restarted so often."""
        target, folders = self._database(name), self.folders(name)
        began, steps = time.monotonic(), self._options.steps
        stops = {round(steps * (number + 1) / (restarts + 1)) for number in range(restarts)}
        with Publishers(self._options.publishers, target, folders) as publishers:
            runs = [GrowingRun(folder, steps=steps, again=True) for folder in folders]
            for step in range(steps):
                if step in stops:
                    before = publishers.failures
                    self._server.stop()
                for run in runs:
                    run.grow()
                if step in stops:
                    publishers.wait_for_failures(before)
                    self._server.start()
            for run in runs:
                run.finish()
        self._row(name, target, folders, publishers.failures, time.monotonic() - began, publishers.cpu)

    def dropped(self, name: str) -> None:
        """The database of an earlier claim, from nothing."""
        target, folders = self._database(name), self.folders(name)
        began, cpu = time.monotonic(), time.process_time()
        with Publisher(target) as publisher:
            publish(publisher, folders)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        self._row("drop", target, folders, [0], seconds, cpu)

    def _database(self, name: str) -> Target:
        return Target.parse(self._server.database(name.replace(" ", "_")))

    def folders(self, name: str) -> list[Path]:
        return [self._work / name / f"run{number}" for number in range(self._options.runs)]

    def _row(
        self,
        name: str,
        target: Target,
        folders: list[Path],
        failures: list[int],
        seconds: float,
        cpu: float,
    ) -> None:
        rows = compare(target, folders)
        self.failed |= rows.lost + rows.too_many > 0
        cells = [len(folders), rows.trials, rows.values, len(failures), sum(failures), rows.lost]
        shown = [f"{cell:,}" for cell in (*cells, rows.too_many)] + [f"{seconds:.1f}", f"{cpu:.1f}"]
        print(f"| {name} | {' | '.join(shown)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60, help="of each run")
    parser.add_argument("--publishers", type=int, default=3)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        options.runs, options.steps, options.restarts = 2, 3, 1
    if (why := postgres.missing()) is not None:
        print(f"Nothing was tried: {why}", file=sys.stderr)
        raise SystemExit(2)
    for name in ("psycopg", "optuna_dashboard"):  # once, before the publishers are forked
        if find_spec(name) is not None:
            importlib.import_module(name)
    with postgres.serving() as server, tempfile.TemporaryDirectory() as work:
        bench = Bench(options, server, Path(work))
        bench.growing("at once", restarts=0)
        bench.growing("restarts", restarts=options.restarts)
        bench.dropped("at once")
    raise SystemExit(1 if bench.failed else 0)


if __name__ == "__main__":
    main()
