"""The other side of `generators.workers`: a process that makes images until its parent closes the line.

One JSON object a line. In: the settings, then lists of requests. Out: what became of each image, and of each
list. Its end of the line closes however the parent ends, so no process is left behind.
"""

from __future__ import annotations

import _thread
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from PIL import Image

    from generators.base import Generator
    from generators.request import ImageRequest
    from generators.store import ImageStore

_PATIENCE = 5.0  # seconds to finish writing what was made, once the line is closed


def main() -> None:
    """Read settings, load the generator, and make what is asked for until the line is closed."""
    try:
        _work()
    finally:
        # An orderly end would wait for the thread that listens, which holds the line.
        if sys.exc_info()[0] not in (None, SystemExit):
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(0 if sys.exc_info()[0] is None else 1)


def _work() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the line
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    settings = asked.get()
    if settings is None:
        return
    try:
        generator = _load(settings)
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        _say(answers, failed=f"{type(error).__name__}: {error}")
        return
    from generators.store import ImageStore

    store = ImageStore(Path(settings["root"]))
    _say(answers, ready=True)
    while (texts := asked.get()) is not None:
        if not _make(generator, texts, store, answers):
            return


def _listen(asked: queue.SimpleQueue[Any]) -> None:
    for line in sys.stdin:
        asked.put(json.loads(line))
    asked.put(None)
    threading.Timer(_PATIENCE, os._exit, (1,)).start()
    _thread.interrupt_main(signal.SIGTERM)  # in the middle of an image there is nobody left to make it for


def _load(settings: dict[str, Any]) -> Generator:
    import torch

    from generators.family import MAIN, GeneratorFamily
    from generators.loading import load

    torch.set_num_threads(settings["threads"])
    own = {"device": settings["device"], "batch_size": settings["batch_size"]}
    found = [load(uri, **own) for uri in settings["uris"]]
    if len(found) == 1:
        return found[0]
    # Requests say by fingerprint whom they were made for, so names do not matter here.
    return GeneratorFamily({(MAIN, None): found[0], **{(one.uri, None): one for one in found}})


def _make(generator: Generator, texts: Sequence[str], store: ImageStore, answers: TextIO) -> bool:
    """Make one list; False when the parent had better do it, and what comes after, by itself."""
    from generators.bad_images import BadImageError
    from generators.fetching import fetch
    from generators.request import ImageRequest

    requests = [ImageRequest.from_json(text) for text in texts]
    try:
        fetch(
            store,
            _OneBatchSize(generator),
            requests,
            on_image=lambda image, new: _say(answers, image=image.request.key, new=new),
        )
    except BadImageError as error:
        bad = [[image.request.to_json(), image.fault] for image in error.images]
        _say(answers, bad=bad, made=error.made)
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        _say(answers, failed=f"{type(error).__name__}: {error}")
        return False
    else:
        _say(answers, done=True)
    return True


class _OneBatchSize:
    """A generator that gives up when memory runs out, instead of going on with smaller batches.

    These would be other requests, and so other pixels, than the parent asked for.
    """

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        from generators.errors import BatchHalvedError

        try:
            yield from self._generator.generate(requests)
        except BatchHalvedError as error:
            raise MemoryError(f"out of memory at {error.before} images a pass") from error


def _say(answers: TextIO, **message: Any) -> None:
    with suppress(BrokenPipeError):  # the parent is gone, and the line is about to close
        answers.write(json.dumps(message) + "\n")
        answers.flush()
