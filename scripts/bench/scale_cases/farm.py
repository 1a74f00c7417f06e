"""Simulated makers in one process: each gives so many prepared images a second.

The engine, the queue and the store are promptopt's; only the network is left out. So what the driver spends
is its own.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from generators.making.crew import Message
from generators.request import ImageRequest
from generators.store import ImageStore

SIZE = 512
_REPOSITORY = Path(__file__).resolve().parents[3]


class FarmCrew:
    """A `generators.making.crew.Crew` of simulated makers.

    Args:
        pictures: folder of prepared images, and of their features by encoder (features.npz).
        rate: images a second of each maker.
        encoders: addresses under which the features come with the images.
        notice: called for each image that arrives.
    """

    def __init__(
        self,
        pictures: Path,
        store: Path,
        *,
        rate: float,
        encoders: tuple[str, ...],
        notice: Callable[[], None],
    ) -> None:
        self._settings = {
            "pictures": str(pictures),
            "store": str(store),
            "rate": rate,
            "encoders": encoders,
        }
        self._notice = notice
        self._said: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        self._heard: deque[tuple[Hashable, Message]] = deque()
        self._numbers = itertools.count()
        self._farm: subprocess.Popen[str] | None = None

    def start(self) -> Hashable:
        """One more maker, ready at once."""
        if self._farm is None:
            self._open()
        worker = next(self._numbers)
        self._heard.append((worker, {"ready": True}))
        return worker

    def send(self, worker: Hashable, chunk: list[ImageRequest]) -> None:
        """See `Crew.send`."""
        self._tell([worker, [request.to_json() for request in chunk]])

    def hear(self, timeout: float) -> tuple[Hashable, Message] | None:
        """See `Crew.hear`; a chunk's images come together, as from Ray."""
        if not self._heard:
            try:
                worker, words = self._said.get(timeout=timeout)
            except queue.Empty:
                return None
            self._heard.extend((worker, word) for word in words)
        worker, word = self._heard.popleft()
        if "image" in word:  # type: ignore[operator]  # no maker of these ends
            self._notice()
        return worker, word

    def look_after(self) -> None:
        """Nothing happens to them."""

    def close(self) -> None:
        """End the process; what it had in its hands is not made."""
        if self._farm is not None:
            assert self._farm.stdin is not None
            self._farm.stdin.close()
            self._farm.wait()
            self._farm = None

    def _open(self) -> None:
        self._farm = subprocess.Popen(
            [sys.executable, "-c", "from scripts.bench.scale_cases.farm import work; work()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(_REPOSITORY)},
            text=True,
            encoding="ascii",
        )
        self._tell(self._settings)
        assert self._farm.stdout is not None
        assert self._farm.stdout.readline() == "ready\n"
        self._said, self._heard = queue.SimpleQueue(), deque()
        threading.Thread(target=self._listen, args=(self._farm.stdout, self._said), daemon=True).start()

    def _tell(self, message: Any) -> None:
        assert self._farm is not None
        assert self._farm.stdin is not None
        self._farm.stdin.write(json.dumps(message) + "\n")
        self._farm.stdin.flush()

    def _listen(self, lines: IO[str], said: queue.SimpleQueue[list[Any]]) -> None:
        for line in lines:
            said.put(json.loads(line))


class _Prepared:
    """Stands for an image whose file is prepared, wherever one is saved."""

    size = (SIZE, SIZE)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def convert(self, _mode: str) -> _Prepared:
        return self

    def save(self, to: io.BytesIO, **_how: Any) -> None:
        to.write(self._content)


def work() -> None:
    """The farm's own process: settings, then chunks, a line each, until the line is closed."""
    settings = json.loads(sys.stdin.readline())
    folder = Path(settings["pictures"])
    pictures = [_Prepared(path.read_bytes()) for path in sorted(folder.glob("*.png"))]
    known = np.load(folder / "features.npz")
    texts = [
        {address: base64.b64encode(known[address][own].astype("<f4").tobytes()).decode("ascii")
         for address in settings["encoders"]}
        for own in range(len(pictures))
    ]  # fmt: skip
    store = ImageStore(settings["store"])
    chosen = itertools.cycle(range(len(pictures)))
    print("ready", flush=True)

    def made(text: str) -> dict[str, Any]:
        request, number = ImageRequest.from_json(text), next(chosen)
        stored = store.put(request, pictures[number])  # type: ignore[arg-type]
        said = {"image": request.key, "sha256": stored.sha256, "new": True}
        if settings["encoders"]:
            said["features"] = texts[number]
        return said

    async def maker(worker: int, chunks: asyncio.Queue[list[str]]) -> None:
        due = time.monotonic()
        while True:
            chunk = await chunks.get()
            due = max(due, time.monotonic()) + len(chunk) / settings["rate"]
            await asyncio.sleep(due - time.monotonic())
            words = [*map(made, chunk), {"done": True}]
            print(json.dumps([worker, words]), flush=True)

    async def run() -> None:
        makers: dict[int, tuple[asyncio.Queue[list[str]], asyncio.Task[None]]] = {}
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            worker, chunk = json.loads(line)
            if worker not in makers:
                chunks: asyncio.Queue[list[str]] = asyncio.Queue()
                makers[worker] = chunks, asyncio.create_task(maker(worker, chunks))
            makers[worker][0].put_nowait(chunk)
        os._exit(0)

    asyncio.run(run())


def prepare_pictures(folder: Path, *, count: int) -> list[Path]:
    """Phantom pictures of 512x512 as the store writes them, and what encoders say of them."""
    from promptopt.augmentation.pictures import EXTREMES, THUMBNAIL, open_looks
    from studies.phantom import write_phantom

    data = write_phantom(folder.with_name("phantom-512"), images=count, size=SIZE)
    store = ImageStore(folder.with_name("written"))
    folder.mkdir(parents=True)
    paths = []
    for number, source in enumerate(data.paths()):
        with Image.open(source) as picture:
            # what a network makes is not as smooth as what is drawn
            grain = np.random.default_rng(number).normal(0, 3, (SIZE, SIZE, 3))
            pixels = np.clip(np.asarray(picture.convert("RGB")) + grain, 0, 255).astype(np.uint8)
        request = ImageRequest(
            generator=hashlib.sha256(b"prepared").hexdigest(), prompt="prepared", negative_prompt="",
            seed=number, width=SIZE, height=SIZE, steps=1, guidance=1.0, scheduler="ddim",
            dtype="float32", device="cpu", versions="none=1",
        )  # fmt: skip
        written = store.put(request, Image.fromarray(pixels)).path
        paths.append(written.rename(folder / f"{number:03d}.png"))
    found = open_looks(["embedded", EXTREMES.uri, THUMBNAIL.uri], "cpu")(paths)
    np.savez(folder / "features.npz", **found)
    return paths
