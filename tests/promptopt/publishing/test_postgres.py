"""Publishing to a real PostgreSQL: several at once, a restart, a drop, a kill."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from promptopt.publishing.copying import content
from promptopt.publishing.publisher import Publisher
from promptopt.publishing.target import Target
from promptopt.publishing.watching import watch
from promptopt.run.database import address
from tests.postgres import Server
from tests.promptopt.publishing.growing import GrowingRun

pytestmark = pytest.mark.slow


def same(url: str, run: GrowingRun, name: str) -> bool:
    there = optuna.load_study(study_name=name, storage=url).get_trials()
    own = optuna.load_study(study_name="red", storage=address(run.folder / "study.db")).get_trials()
    return [content(one) for one in there] == [content(one) for one in own]


def test_three_publishers_at_once_then_a_drop_and_all_again(postgres_server: Server, tmp_path: Path) -> None:
    target = Target.parse(postgres_server.database("team"))
    runs = [GrowingRun(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        for _ in range(3):
            run.grow()
    folders = [str(run.folder) for run in runs]
    words = [sys.executable, "-m", "promptopt", "publish", *folders, "--to", str(target), "--user", "anna"]
    publishers = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [one.communicate(timeout=300)[1] for one in publishers]
    assert [one.returncode for one in publishers] == [0, 0, 0], said
    for run in runs:
        assert same(target.address, run, f"anna/{run.folder.name}/red")
    assert len(optuna.get_all_study_names(target.address)) == 2
    postgres_server.database("team")
    with Publisher(target) as publisher:
        for run in runs:
            publisher.update(run.folder)
            run.finish()
            publisher.update(run.folder)
            assert same(target.address, run, f"anna/{run.folder.name}/red")


def test_a_restart_in_the_middle_of_a_watch(postgres_server: Server, tmp_path: Path) -> None:
    target = Target.parse(postgres_server.database("watched"))
    run = GrowingRun(tmp_path / "a")
    run.grow()
    said: list[str] = []
    steps = iter(range(100))

    def sleep(_: float) -> None:
        step = next(steps)
        if step == 0:
            postgres_server.stop()
            run.grow()
        elif step == 1:
            postgres_server.start()
        else:
            raise KeyboardInterrupt

    with Publisher(target, user="anna") as publisher, pytest.raises(KeyboardInterrupt):
        watch(
            publisher, [run.folder], seconds=0, on_update=lambda _: None, on_trouble=said.append, sleep=sleep
        )
    assert len(said) == 1
    assert same(target.address, run, "anna/a/red")


def test_a_publisher_that_is_killed_leaves_nothing_that_the_next_does_not_mend(
    postgres_server: Server, tmp_path: Path
) -> None:
    target = Target.parse(postgres_server.database("killed"))
    run = GrowingRun(tmp_path / "a")
    for _ in range(10):
        run.grow()
    words = [
        sys.executable,
        "-m",
        "promptopt",
        "publish",
        str(run.folder),
        "--to",
        str(target),
        "--user",
        "x",
    ]
    victim = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ends = time.monotonic() + 120
    engine = optuna.storages.RDBStorage(target.address)
    while victim.poll() is None and time.monotonic() < ends:
        if any(engine.get_n_trials(study._study_id) > 2 for study in engine.get_all_studies()):
            victim.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    victim.wait(60)
    with Publisher(target) as publisher:
        publisher.update(run.folder)
    assert same(target.address, run, "x/a/red")
