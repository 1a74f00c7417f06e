"""Local processes that make images.

Each process loads the generator by its address and writes into the shared image store.

Plain child processes over pipes, not `multiprocessing`: that imports the caller's main module once more in
each of them, which a script or a notebook has to be prepared for.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any

from generators.making.crew import CrewEngine, Ended, Message
from generators.making.spec import MakerSpec
from generators.request import ImageRequest
from generators.stores.opening import open_store

logger = logging.getLogger(__name__)

_STOPPED = 60.0  # seconds until one that stays stopped is given up
_PATIENCE = 5.0  # seconds until a process that does not end is killed
_START = (
    "import json, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:] = json.loads(sys.argv[1]); from generators.making.worker_process import main; main()"
)


def processes(spec: MakerSpec, *, count: int) -> CrewEngine:
    """The engine of local processes.

    On the CPU each computes with as many threads as the spec says, because rounding depends on their number:
    with other numbers, the images would not be those that this process makes. So on a machine with 8 cores,
    OMP_NUM_THREADS=1 with 8 processes, or 2 with 4, makes the most of them. With several GPUs of one kind,
    they take turns.

    Args:
        count: how many.
    """
    return CrewEngine(
        ProcessCrew(spec, _devices(spec.device, count)), spec, count=count, store=open_store(spec.store)
    )


class ProcessCrew:
    """A `Crew` of child processes, each of which computes on one of the places."""

    def __init__(self, spec: MakerSpec, places: list[str]) -> None:
        self._spec = spec
        self._places = places
        self._running: dict[Hashable, tuple[_Process, str]] = {}
        self._heard: queue.SimpleQueue[tuple[_Process, dict[str, Any] | None]] = queue.SimpleQueue()

    def start(self) -> Hashable:
        """One more process, on the place that has the fewest."""
        used = [place for _, place in self._running.values()]
        place = min(self._places, key=used.count)
        settings = {"spec": self._spec.to_json(), "place": place, "threads": self._spec.threads}
        process = _Process(settings, self._heard)
        self._running[process.pid] = process, place
        return process.pid

    def send(self, worker: Hashable, chunk: list[ImageRequest]) -> None:
        """See `Crew.send`."""
        self._running[worker][0].send([request.to_json() for request in chunk])

    def hear(self, timeout: float) -> tuple[Hashable, Message] | None:
        """See `Crew.hear`."""
        try:
            process, said = self._heard.get(timeout=timeout)
        except queue.Empty:
            return None
        if said is not None:
            return process.pid, said
        self._running.pop(process.pid, None)
        return process.pid, Ended(process.end())

    def look_after(self) -> None:
        """Say which processes were stopped, and give up those that stay so."""
        for process, _ in self._running.values():
            process.notice_stop()

    def close(self) -> None:
        """End all of them."""
        running, self._running = [process for process, _ in self._running.values()], {}
        self._heard = queue.SimpleQueue()
        for process in running:
            process.close()
        for process in running:
            process.end()


class _Process:
    """One child, and the thread that listens to it."""

    def __init__(self, settings: dict[str, Any], heard: queue.SimpleQueue[Any]) -> None:
        threads = str(settings["threads"])
        # Threads that wait must not spin: together the processes may have more of them than there are cores.
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
        self._child = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps([path or str(Path.cwd()) for path in sys.path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            encoding="ascii",
        )
        self._stopped: float | None = None
        self.send(settings)
        threading.Thread(target=self._listen, args=(heard,), daemon=True).start()

    def _listen(self, heard: queue.SimpleQueue[Any]) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as answers:
            for line in answers:
                if line.endswith("\n"):  # a process that is killed may leave half a line
                    heard.put((self, json.loads(line)))
        heard.put((self, None))

    @property
    def pid(self) -> int:
        """Its number."""
        return self._child.pid

    def send(self, message: Any) -> None:
        """Give it work. One that is dead is heard of by the listening thread."""
        assert self._child.stdin is not None
        with suppress(OSError):
            self._child.stdin.write(json.dumps(message) + "\n")
            self._child.stdin.flush()

    def notice_stop(self) -> None:
        """Say that it was stopped (SIGSTOP, a debugger), and give it up if that lasts."""
        if not _is_stopped(self._child.pid):
            self._stopped = None
        elif self._stopped is None:
            self._stopped = time.monotonic()
            logger.warning(
                "worker %d was stopped (SIGSTOP), and is waited for; let it go on with kill -CONT %d, or in "
                "%.0f s its images are made without it",
                self._child.pid, self._child.pid, _STOPPED,
            )  # fmt: skip
        elif time.monotonic() - self._stopped > _STOPPED:
            self._child.kill()

    def close(self) -> None:
        """Let it end."""
        assert self._child.stdin is not None
        with suppress(OSError):  # unsent work for a process that is dead
            self._child.stdin.close()

    def end(self) -> str:
        """Wait until it has ended, and see to it that it does; says how."""
        self.close()
        try:
            code = self._child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"


def _is_stopped(pid: int) -> bool:
    """Whether a process was stopped, as far as Linux says so."""
    try:
        # the name in parentheses may hold anything
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def _devices(device: str, count: int) -> list[str]:
    """Where processes compute: on GPUs of one kind in turn, where they may and there are several."""
    if device != "cuda":
        return [device]
    import torch

    kind = torch.cuda.get_device_name(0)
    alike = [i for i in range(torch.cuda.device_count()) if torch.cuda.get_device_name(i) == kind]
    return [f"cuda:{i}" for i in alike[:count]]
