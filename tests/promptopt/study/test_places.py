"""Several processes make the images of a study: the same bytes, the same errors, nobody left behind."""

import json
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import generators.making.processes as module
from generators import GeneratorError
from generators.card import read_card, runtime_facts
from generators.making.processes import processes
from generators.making.spec import MakerSpec
from promptopt import Study, StudyError
from promptopt.study.observer import Observer
from tests.promptopt.fakes import SquareGenerator, study, write_squares

REPOSITORY = Path(__file__).resolve().parents[3]


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children")
    if not found.exists():
        pytest.skip("needs /proc/PID/task/PID/children")
    return [int(word) for word in found.read_text().split()]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true: Any, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_worker_that_was_stopped_is_noticed_and_given_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_START", "import sys; print(1, flush=True); sys.stdin.read()")
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    process = module._Process({"threads": 1}, heard)
    assert heard.get(timeout=60)[1] == 1
    number = process._child.pid
    process.notice_stop()
    assert not caplog.messages
    os.kill(number, signal.SIGSTOP)
    wait_until(lambda: module._is_stopped(number), 20)
    for _ in range(3):
        process.notice_stop()
    (said,) = caplog.messages  # once
    assert f"worker {number} was stopped" in said
    assert f"kill -CONT {number}" in said
    os.kill(number, signal.SIGCONT)
    wait_until(lambda: not module._is_stopped(number), 20)
    process.notice_stop()
    os.kill(number, signal.SIGSTOP)
    wait_until(lambda: module._is_stopped(number), 20)
    monkeypatch.setattr(module, "_STOPPED", 0.0)
    process.notice_stop()
    process.notice_stop()
    assert heard.get(timeout=20) == (process, None)
    assert process.end() == "was killed by signal 9"


@pytest.mark.slow
def test_a_worker_that_cannot_load_ends_the_study_with_its_reason(tmp_path: Path) -> None:
    card = read_card("embedded", facts=runtime_facts(device="cpu"))
    spec = MakerSpec(
        generators=(("embedded", "0" * 64),), device="cpu", versions=card.facts.versions, store=str(tmp_path)
    )
    engine = processes(spec, count=1)
    with pytest.raises(GeneratorError, match=r"embedded: has other weights here.*000000000000"):
        list(engine.make([card.request("a polyp", 1)], ahead=1))
    engine.close()


SMALL: dict[str, Any] = {
    "name": "small",
    "aim": "single",
    "category": "polyps",
    "data": {"phantom": {"images": 150}},
    "generator": {"uri": "embedded", "steps": 1},
    "search": {"trials": 3, "images": 12, "racing": False},
    "confirm": {"top": 2, "images": 12},
}


class Listener(Observer):
    images = 0

    def on_image(self, generated: bool) -> None:
        self.images += 1


class Run:
    """A small study, run at a place: what it counted, and what it left."""

    def __init__(self, folder: Path, on: str) -> None:
        self.folder, self.on, self.heard = folder, on, Listener()
        result = self.again(self.heard)
        self.counted = result.generated, result.reused
        self.pictures = {
            path.name: path.read_bytes() for path in (folder / "store" / "images").rglob("*.png")
        }

    def again(self, observer: Observer | None = None) -> Any:
        study = Study(SMALL, runs=self.folder / "runs", store=self.folder / "store")
        return study.run(on=self.on, device="cpu", observer=observer)

    def file(self, name: str) -> bytes:
        return (self.folder / "runs" / "small" / name).read_bytes()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("here"), "here")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["processes:2", "ray?workers=2"], indirect=True)
def test_a_whole_study_ends_with_the_same_bytes_wherever_its_images_are_made(
    place: str, here: Run, tmp_path: Path
) -> None:
    elsewhere = Run(tmp_path, place)
    assert elsewhere.again().generated == 0
    assert elsewhere.counted == here.counted
    assert elsewhere.heard.images == here.heard.images
    for name in ("prompts.json", "trials.csv", "confirmation.csv", "effects.csv"):
        assert elsewhere.file(name) == here.file(name), name
    assert len(here.pictures) == here.counted[0]
    assert elsewhere.pictures == here.pictures


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_the_study(tmp_path: Path, number: int) -> None:
    content = SMALL | {"generator": {"uri": "embedded", "steps": 60}}
    (tmp_path / "study.yaml").write_text(json.dumps(content))  # JSON is YAML
    study = subprocess.Popen(
        [sys.executable, "-m", "promptopt", "study", "run", "study.yaml", "--on", "processes:2"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        # A shell lets what it starts in the background ignore Ctrl-C, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: study.poll() is not None or len(children(study.pid)) == 2)
    own = children(study.pid)
    assert len(own) == 2
    if number == signal.SIGINT:
        wait_until(lambda: study.poll() is not None or len(list(tmp_path.glob("store/images/*/*.png"))) > 1)
        os.killpg(study.pid, number)  # as a terminal does
    else:
        study.kill()  # the study alone: its workers have to notice
    _, complaints = study.communicate(timeout=180)
    wait_until(lambda: not any(map(alive, own)), 30)
    assert study.returncode == (130 if number == signal.SIGINT else -9)
    assert "Traceback" not in complaints
    assert ("Interrupted" in complaints) == (number == signal.SIGINT)


def test_a_study_refuses_slurm_and_names_what_to_use(tmp_path: Path) -> None:
    asked = Study(SMALL, runs=tmp_path / "runs", store=tmp_path / "store")
    with pytest.raises(StudyError, match=r"images in bulk.*sbatch .*--on processes:4.*ray:ADDRESS"):
        asked.run(on="slurm?jobs=2", device="cpu")


def test_a_generator_of_ones_own_cannot_be_shared(tmp_path: Path) -> None:
    content = study(tmp_path, data=str(write_squares(tmp_path / "data", each=4)))
    mine = Study(content, generator=SquareGenerator(), runs=tmp_path / "runs", store=tmp_path / "store")
    with pytest.raises(StudyError, match=r"processes:2.*object"):
        mine.run(workers=2)
    with pytest.raises(GeneratorError, match="workers is 0"):
        mine.run(workers=0)
    with pytest.raises(GeneratorError, match=r"workers is 2.*ray"):
        mine.run(workers=2, on="ray?workers=2")
