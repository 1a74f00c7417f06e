"""Slurm jobs: what they ask for, how their ends are noticed, what is left behind. Slurm is a fake here."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import generators.making.slurm as module
import generators.making.slurm_job as job_module
from generators import GeneratorError, ImageRequest, ImageStore, fetch, load
from generators.errors import LostWorkersError
from generators.making.lines import Inbox, Outbox
from generators.making.makers import Makers
from generators.making.place import Place
from generators.making.slurm import slurm_jobs
from generators.making.spec import MakerSpec
from tests.generators.making.slurm_commands import install

pytest.importorskip("submitit", reason="needs the extra `slurm`")

GENERATOR = load("embedded", device="cpu", batch_size=2)


def spec(tmp_path: Path, **changes: Any) -> MakerSpec:
    store = tmp_path / "store"
    store.mkdir(exist_ok=True)
    return MakerSpec(
        generators=(("embedded", changes.pop("fingerprint", GENERATOR.fingerprint)),),
        device="cpu",
        batch_size=2,
        versions=GENERATOR.request("", 0).versions,
        chunk=4,
        store=str(store),
        **changes,
    )


def asked(count: int) -> list[ImageRequest]:
    return [GENERATOR.request("a polyp", seed, steps=1) for seed in range(count)]


def place(tmp_path: Path, text: str = "slurm?jobs=1") -> Place:
    return Place.parse(f"{text}&folder={tmp_path / 'jobs'}")


class Threads:
    """In place of submitit: each job is a thread of this process."""

    def __init__(self, folder: Path, job: Callable[[Path, str], None] = job_module.converse) -> None:
        self.folder, self._job = folder, job
        self.jobs: list[Any] = []

    def submit(self, _work: Any, folder: str, name: str) -> Any:
        thread = threading.Thread(target=self._job, args=(Path(folder), name), daemon=True)
        job = SimpleNamespace(
            job_id=str(len(self.jobs) + 1),
            state="RUNNING",
            cancelled=False,
            paths=SimpleNamespace(stderr=f"{folder}/log.err"),
        )
        job.cancel = lambda check: setattr(job, "cancelled", True)
        self.jobs.append(job)
        thread.start()
        return job


@pytest.fixture
def threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    monkeypatch.setattr(module, "_LOOK", 0.0)
    monkeypatch.setattr(module, "POLL", 0.01)
    monkeypatch.setattr(job_module, "POLL", 0.01)
    (tmp_path / "jobs").mkdir()
    executor = Threads(tmp_path / "jobs")
    monkeypatch.setattr(module, "_executor", lambda *_: executor)
    yield executor
    for lines in (tmp_path / "jobs").glob("*.in"):
        Outbox(lines).send({"end": True})


def test_images_come_back_with_the_bytes_that_are_made_here(tmp_path: Path, threads: Threads) -> None:
    engine = slurm_jobs(spec(tmp_path), place(tmp_path))
    made = list(engine.make(asked(6), ahead=6))
    assert sorted(one.asked.seed for one in made) == list(range(6))
    for alone in fetch(ImageStore(tmp_path / "here"), GENERATOR, asked(6)):
        assert engine.store.path(alone.request).read_bytes() == alone.path.read_bytes()
    assert not threads.jobs[0].cancelled  # it waits for more
    engine.close()
    assert [job.cancelled for job in threads.jobs] == [True]


def test_a_caller_that_goes_away_cancels_the_jobs(tmp_path: Path, threads: Threads) -> None:
    images = slurm_jobs(spec(tmp_path), place(tmp_path)).make(asked(6), ahead=6)
    next(images)
    images.close()  # as Ctrl-C does
    assert all(job.cancelled for job in threads.jobs)


def test_what_a_job_refuses_is_said_in_its_words(tmp_path: Path, threads: Threads) -> None:
    engine = slurm_jobs(spec(tmp_path, fingerprint="0" * 64), place(tmp_path))
    with pytest.raises(GeneratorError, match="embedded: has other weights here"):
        list(engine.make(asked(1), ahead=1))
    assert all(job.cancelled for job in threads.jobs)


def test_jobs_that_end_are_replaced_and_a_request_that_ends_them_is_named(
    tmp_path: Path, threads: Threads, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job at one of whose images it is gone without a word, as one that the kernel kills."""

    def converse(folder: Path, name: str) -> None:
        inbox, out = Inbox(folder / f"{name}.in"), Outbox(folder / f"{name}.out")
        (own,) = [job for job in threads.jobs if not hasattr(job, "taken")][:1]
        own.taken = True
        while True:
            for message in inbox.read():
                if "end" in message:
                    return
                if "spec" in message:
                    out.send({"ready": True})
                for text in message.get("chunk", ()):
                    request = ImageRequest.from_json(text)
                    if request.seed == 3:
                        own.state = "OUT_OF_MEMORY"
                        return
                    out.send({"image": request.key, "sha256": "", "new": True})
                if "chunk" in message:
                    out.send({"done": True})
            time.sleep(0.01)

    monkeypatch.setattr(threads, "_job", converse)
    made: list[Any] = []
    with pytest.raises(LostWorkersError, match=r"gave up 1 of 6 images.*others are made.*seed 3") as caught:
        made.extend(slurm_jobs(spec(tmp_path), place(tmp_path)).make(asked(6), ahead=6))
    assert sorted(one.asked.seed for one in made) == [0, 1, 2, 4, 5]
    assert [request.seed for request in caught.value.requests] == [3]
    assert "a worker (1) ended (out_of_memory); its log is " in caplog.text
    assert "log.err; another one takes its place" in caplog.text
    assert [job.cancelled for job in threads.jobs if job.state != "RUNNING"] == [True] * 3


def test_a_job_without_a_sign_of_life_is_given_up(
    tmp_path: Path, threads: Threads, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no accounting says how jobs are, silence does."""

    def ready_and_gone(folder: Path, name: str) -> None:
        Outbox(folder / f"{name}.out").send({"ready": True})

    monkeypatch.setattr(threads, "_job", ready_and_gone)
    monkeypatch.setattr(module, "SILENCE", 0.05)
    with pytest.raises(LostWorkersError, match="gave up 2 of 2 images"):
        list(slurm_jobs(spec(tmp_path), place(tmp_path)).make(asked(2), ahead=2))
    assert "a worker (1) was not heard of for 0 seconds; its log is" in caplog.text
    assert all(job.cancelled for job in threads.jobs)


def test_slurms_signal_before_the_end_of_its_time_is_a_jobs_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "converse", lambda *_: os.kill(os.getpid(), signal.SIGUSR2))
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    try:
        with pytest.raises(SystemExit, match="got SIGUSR2, as at the end of its time"):
            job_module.work(str(tmp_path), "one")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_job_ends_by_itself_when_the_driver_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "SILENCE", 0.05)
    Outbox(tmp_path / "one.in")
    with pytest.raises(SystemExit, match="the driver is gone"):
        job_module.converse(tmp_path, "one")
    assert Inbox(tmp_path / "one.out").read() == [{"ended": "the driver is gone"}]


def test_a_job_with_a_gpu_says_which_and_is_the_first_that_makes_images(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[dict[str, Any]] = []
    own = job_module._facts

    def facts(settings: dict[str, Any]) -> dict[str, Any]:
        asked_for.append(settings)
        return own(settings | {"device": "cpu"})

    monkeypatch.setattr(job_module, "_facts", facts)
    monkeypatch.setattr("generators.making.makers.Makers._threads", lambda _: 1)
    on = place(tmp_path, "slurm?jobs=1&gpus=1&chunk=2")
    with Makers(on, batch_size=2) as makers:
        generator = makers.load("embedded")
        requests = [generator.request("a polyp", seed, steps=1) for seed in range(2)]
        list(makers.engine(ImageStore(tmp_path / "store")).make(requests, ahead=2))
        assert len(threads.jobs) == 1
    assert asked_for == [{"compile_": "auto", "device": "auto", "dtype": "auto", "batch_size": 2}]
    assert threads.jobs[0].cancelled


def test_on_jobs_without_a_gpu_no_other_device_can_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="--device cuda needs gpus=1"):
        Makers(place(tmp_path), device="cuda").load("embedded")


def test_without_slurm_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GeneratorError, match=r"no sbatch on the PATH.*login node.*processes:N"):
        slurm_jobs(spec(tmp_path), place(tmp_path))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(GeneratorError, match=r"pip install 'promptopt\[slurm\]'"):
        slurm_jobs(spec(tmp_path), place(tmp_path))


def test_a_job_that_slurm_refuses_is_said_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    refusing = tmp_path / "commands/sbatch"
    refusing.write_text("#!/bin/bash\necho 'error: invalid partition specified: gqu' >&2; exit 1\n")
    with pytest.raises(GeneratorError, match=r"job was not taken.*invalid partition specified: gqu"):
        list(slurm_jobs(spec(tmp_path), place(tmp_path)).make(asked(1), ahead=1))


def test_a_job_asks_for_what_the_place_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = install(tmp_path, monkeypatch)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    text = "slurm:long?jobs=1&gpus=1&gpu=h100&time=4h&mem=32GB&cpus=6&account=lab&qos=high&constraint=a|b"
    jobs = module.Jobs(place(tmp_path, text))
    (tmp_path / "commands/srun").write_text("#!/bin/bash\n")
    job = jobs.start()
    script = (notes / "script").read_text()
    for flag in (
        "--partition=long", "--time=240", "--gpus-per-node=h100:1", "--mem=32GB", "--cpus-per-task=6",
        "--account=lab", "--qos=high", "--constraint='a|b'", "--nodes=1", "--no-requeue",
    ):  # fmt: skip
        assert f"#SBATCH {flag}\n" in script
    (folder,) = (tmp_path / "jobs").iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not any(b"hf_secret" in file.read_bytes() for file in folder.iterdir())
    job.cancel()
    assert (notes / "cancelled").read_text().split() == [job.number]


@pytest.mark.slow
def test_by_sbatch_and_srun_the_bytes_are_the_same_though_a_node_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    notes = install(tmp_path, monkeypatch)
    engine = slurm_jobs(spec(tmp_path), place(tmp_path))
    made = 0
    for _ in engine.make(asked(9), ahead=9):
        made += 1
        if made == 1:
            os.killpg(int((notes / "started").read_text()), signal.SIGKILL)
    assert made == 9
    for alone in fetch(ImageStore(tmp_path / "here"), GENERATOR, asked(9)):
        assert engine.store.path(alone.request).read_bytes() == alone.path.read_bytes()
    assert "ended (node_fail); its log is" in caplog.text
    engine.close()
    started = (notes / "started").read_text().split()
    assert len(started) == 2
    assert set((notes / "cancelled").read_text().split()) == set(started)
