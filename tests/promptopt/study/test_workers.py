"""Several processes make the images of a study: the same bytes, the same errors, nobody left behind."""

import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import generators.workers as workers_module
from generators import ImageStore, fetch, load
from generators.bad_images import BadImageError
from generators.request import ImageRequest
from generators.workers import Workers
from promptopt import Study, StudyError
from promptopt.study.observer import Observer
from tests.promptopt.fakes import SquareGenerator, study, write_squares

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def generator() -> Any:
    return load("embedded", device="cpu", batch_size=2)


@pytest.fixture
def workers(generator: Any) -> Iterator[Workers]:
    found = start(generator, 2)
    yield found
    found.close()


def start(generator: Any, count: int, *, uri: str = "embedded") -> Workers:
    return Workers(generator, uri=uri, device="cpu", count=count)


def requests(generator: Any, count: int, **settings: Any) -> list[ImageRequest]:
    return [generator.request("a polyp", seed, steps=2, **settings) for seed in range(count)]


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
    monkeypatch.setattr(workers_module, "_START", "import sys; print(1, flush=True); sys.stdin.read()")
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    process = workers_module._Process({"threads": 1}, heard)
    assert heard.get(timeout=60)[1] == 1
    number = process._child.pid
    process.notice_stop()
    assert not caplog.messages
    os.kill(number, signal.SIGSTOP)
    wait_until(lambda: workers_module._is_stopped(number), 20)
    for _ in range(3):
        process.notice_stop()
    (said,) = caplog.messages  # once
    assert f"worker {number} was stopped" in said
    assert f"kill -CONT {number}" in said
    os.kill(number, signal.SIGCONT)
    wait_until(lambda: not workers_module._is_stopped(number), 20)
    process.notice_stop()
    os.kill(number, signal.SIGSTOP)
    wait_until(lambda: workers_module._is_stopped(number), 20)
    monkeypatch.setattr(workers_module, "_STOPPED", 0.0)
    process.notice_stop()
    process.notice_stop()
    assert heard.get(timeout=20) == (process, None)
    assert process.end() == "killed by signal 9"


@pytest.mark.slow
def test_images_are_the_same_bytes_whoever_makes_them(
    generator: Any, workers: Workers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = requests(generator, 7) + requests(generator, 2, guidance=1.0)
    heard: list[bool] = []
    store = ImageStore(tmp_path / "many")
    before = children(os.getpid())  # other tests' and libraries' helpers
    fetch(store, generator, asked[:1])
    made = workers.make(asked * 2, store, on_image=heard.append)
    assert made == {request.key for request in asked[1:]}
    assert heard == [True] * 8  # one by one, as they came
    alone = fetch(ImageStore(tmp_path / "one"), generator, asked)
    for image in alone:
        found = store.get(image.request)
        assert found is not None
        assert found.path.read_bytes() == image.path.read_bytes()
    assert workers.make(asked, store, on_image=heard.append) == set()  # nothing is missing

    # One that is killed costs time, not the study: the other one goes on, and what is left over comes after.
    own = [child for child in children(os.getpid()) if child not in before]
    longer = requests(generator, 14)

    def kill_one(new: bool) -> None:
        if alive(own[0]):
            os.kill(own[0], signal.SIGKILL)

    workers.make(longer, store, on_image=kill_one)
    assert "killed by signal 9" in caplog.text
    assert len(fetch(store, generator, longer)) == 14
    wait_until(lambda: not alive(own[0]))


def test_few_images_are_left_to_the_study_itself(generator: Any, workers: Workers, tmp_path: Path) -> None:
    before = children(os.getpid())
    assert workers.make(requests(generator, 2), ImageStore(tmp_path), on_image=print) == set()
    assert children(os.getpid()) == before


@pytest.mark.slow
def test_a_worker_that_cannot_load_or_make_leaves_the_error_to_the_study(
    generator: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, asked = ImageStore(tmp_path / "store"), requests(generator, 5)
    nowhere = start(generator, 1, uri="no/such/model")
    assert nowhere.make(asked, store, on_image=lambda new: None) == set()
    assert "no/such/model" in caplog.text
    caplog.clear()
    foreign = load("embedded", device="cpu", batch_size=3)
    workers = start(generator, 1)
    wrong = [foreign.request("a polyp", seed) for seed in range(5)]
    assert workers.make(wrong, store, on_image=lambda new: None) == set()
    assert "batch=3" in caplog.text
    assert not list(tmp_path.rglob("*.png"))
    nowhere.close()
    workers.close()


def test_bad_images_of_all_workers_make_one_error(workers: Workers) -> None:
    from generators.workers import _raise_bad

    one = SquareGenerator().request("a", 1)
    with pytest.raises(BadImageError, match="2 of 40 images are bad") as caught:
        _raise_bad([[one.to_json(), "black"], [one.to_json(), "not finite"]], 40)
    assert caught.value.counts == {"black": 1, "not finite": 1}


SMALL: dict[str, Any] = {
    "name": "small",
    "aim": "single",
    "category": "polyps",
    "data": {"phantom": {"images": 150}},
    "generator": {"uri": "embedded", "steps": 1},
    "search": {"trials": 3, "images": 12, "racing": False},
    "confirm": {"top": 2, "images": 12},
}


@pytest.mark.slow
def test_a_study_with_workers_ends_with_the_same_bytes(tmp_path: Path) -> None:
    class Listener(Observer):
        images = 0

        def on_image(self, generated: bool) -> None:
            self.images += 1

    found, heard = [], []
    for workers in (1, 4):
        place = tmp_path / str(workers)
        heard.append(Listener())
        result = Study(SMALL, runs=place / "runs", store=place / "store").run(
            workers=workers, device="cpu", observer=heard[-1]
        )
        found.append((result.generated, result.reused))
        if workers == 4:
            again = Study(SMALL, runs=place / "runs", store=place / "store").run(workers=4, device="cpu")
            assert again.generated == 0
    assert found[0] == found[1]
    assert heard[0].images == heard[1].images
    for file in ("prompts.json", "trials.csv", "confirmation.csv", "effects.csv"):
        assert len({(tmp_path / w / "runs/small" / file).read_bytes() for w in ("1", "4")}) == 1, file
    stored = [
        {path.name: path.read_bytes() for path in (tmp_path / w / "store/images").rglob("*.png")}
        for w in ("1", "4")
    ]
    assert stored[0] == stored[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_the_study(tmp_path: Path, number: int) -> None:
    content = SMALL | {"generator": {"uri": "embedded", "steps": 60}}
    (tmp_path / "study.yaml").write_text(json.dumps(content))  # JSON is YAML
    study = subprocess.Popen(
        [sys.executable, "-m", "promptopt", "study", "run", "study.yaml", "--workers", "2"],
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


def test_a_generator_of_ones_own_cannot_be_shared(tmp_path: Path) -> None:
    content = study(tmp_path, data=str(write_squares(tmp_path / "data", each=4)))
    mine = Study(content, generator=SquareGenerator(), runs=tmp_path / "runs", store=tmp_path / "store")
    with pytest.raises(StudyError, match=r"workers is 2.*object"):
        mine.run(workers=2)
    with pytest.raises(StudyError, match="workers is 0"):
        mine.run(workers=0)
