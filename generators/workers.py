"""Images made by several processes: the same bytes, sooner.

Each process loads the generator by its address and writes into the shared image store. An image depends on
its request alone, so who makes it does not matter. What the processes fail to make, the study makes itself:
so a process that dies costs time, not the study, and an error is the one that it would be without them.

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
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.family import GeneratorFamily
from generators.fetching import sharing

if TYPE_CHECKING:
    from generators.base import Generator
    from generators.request import ImageRequest
    from generators.store import ImageStore

logger = logging.getLogger(__name__)

_CHUNK = 8  # requests handed to a process at a time, where the generator has no batch of its own
_FEW_BAD = 8
_LOOK = 5.0  # seconds without a word until it is looked whether a process was stopped
_STOPPED = 60.0  # seconds until one that stays stopped is given up
_PATIENCE = 5.0  # seconds until a process that does not end is killed
_START = (
    "import json, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:] = json.loads(sys.argv[1]); from generators.worker_process import main; main()"
)


class Workers:
    """Processes with the generator of a study, started when first needed.

    On the CPU each computes with as many threads as this process, because rounding depends on their number:
    with other numbers, the images would not be those that this process makes. So on a machine with 8 cores,
    OMP_NUM_THREADS=1 with 8 workers, or 2 with 4, makes the most of them.

    Args:
        generator: the one whose images are asked for; its batch size is theirs.
        uri: its address, from which each process loads it; a `GeneratorFamily` knows its own.
        device: as given to `generators.load`.
        count: how many.
    """

    def __init__(self, generator: Generator, *, uri: str, device: str, count: int) -> None:
        self._generator = generator
        self._uris = list(generator.uris) if isinstance(generator, GeneratorFamily) else [uri]
        self._device = device
        self._count = count
        self._processes: list[_Process] | None = None
        self._heard: queue.SimpleQueue[tuple[_Process, dict[str, Any] | None]] = queue.SimpleQueue()

    def make(
        self,
        requests: Sequence[ImageRequest],
        store: ImageStore,
        *,
        on_image: Callable[[bool], None],
    ) -> set[str]:
        """Make what the store lacks; returns the keys of the images that are there now.

        A few are left to this process where that is sooner, and all where the processes fail.

        Args:
            on_image: told of each image that came to be, and whether it was made for this call.

        Raises:
            BadImageError: as without workers: once all others are made, with all the bad ones.
        """
        missing = [request for request in dict.fromkeys(requests) if store.get(request) is None]
        size = self._batch_size
        if len(missing) <= size:
            return set()
        missing.sort(key=sharing)
        chunks = deque(missing[i : i + size] for i in range(0, len(missing), size))
        if self._processes is None:
            self._processes = self._start(store)
        try:
            return self._hand_out(chunks, self._processes, on_image)
        except BaseException:
            self.close()
            raise

    def _hand_out(
        self,
        chunks: deque[list[ImageRequest]],
        processes: list[_Process],
        on_image: Callable[[bool], None],
    ) -> set[str]:
        there: set[str] = set()
        bad: list[list[str]] = []
        tried = 0
        busy: set[_Process] = set()

        def next_for(process: _Process) -> None:
            if chunks:
                process.send([request.to_json() for request in chunks.popleft()])
                busy.add(process)

        for process in processes:
            next_for(process)
        while busy:
            try:
                process, said = self._heard.get(timeout=_LOOK)
            except queue.Empty:
                for one in busy:
                    one.notice_stop()
                continue
            if said is None or "failed" in said:
                if process in processes:
                    processes.remove(process)
                    why = process.end() if said is None else said["failed"]
                    logger.warning("a worker gave up (%s); the study goes on without it", why)
                busy.discard(process)
            elif "image" in said:
                there.add(said["image"])
                tried += said["new"]
                on_image(said["new"])
            elif "done" in said or "bad" in said:
                bad += said.get("bad", [])
                tried += len(said.get("bad", []))
                if len(bad) > max(_FEW_BAD, tried - len(bad)):
                    chunks.clear()  # most are bad, so the rest is not worth its time
                busy.discard(process)
                next_for(process)
        if bad:
            _raise_bad(bad, tried)
        return there

    @property
    def _batch_size(self) -> int:
        return int(getattr(self._generator, "batch_size", _CHUNK))

    def _start(self, store: ImageStore) -> list[_Process]:
        import torch

        settings = {
            "uris": self._uris,
            "batch_size": getattr(self._generator, "batch_size", None),
            "threads": torch.get_num_threads(),
            "root": str(store.root.absolute()),
        }
        places = _devices(self._device, self._count)
        return [_Process(settings | {"device": place}, self._heard) for place in places]

    def close(self) -> None:
        """Stop the processes; what they have made is in the store."""
        processes, self._processes = self._processes or [], None
        self._heard = queue.SimpleQueue()
        for process in processes:
            process.close()
        for process in processes:
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
                "worker %d was stopped (SIGSTOP), and the study waits for it; let it go on with kill -CONT "
                "%d, or in %.0f s its images are made without it",
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
        return f"killed by signal {-code}" if code < 0 else f"ended with exit status {code}"


def _is_stopped(pid: int) -> bool:
    """Whether a process was stopped, as far as Linux says so."""
    try:
        # the name in parentheses may hold anything
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def _raise_bad(bad: Sequence[Sequence[str]], made: int) -> None:
    from generators.bad_images import BadImage, BadImageError
    from generators.request import ImageRequest

    raise BadImageError([BadImage(ImageRequest.from_json(text), fault) for text, fault in bad], made=made)


def _devices(device: str, workers: int) -> list[str]:
    """One device a process: the GPUs in turn where there are several of the kind that this process uses."""
    import torch

    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return [device] * workers
    kind = torch.cuda.get_device_name(0)
    alike = [i for i in range(torch.cuda.device_count()) if torch.cuda.get_device_name(i) == kind]
    return [f"cuda:{alike[i % len(alike)]}" for i in range(workers)]
