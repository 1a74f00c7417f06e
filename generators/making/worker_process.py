"""The other side of `generators.making.processes`: makes images until its parent closes the line.

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
from contextlib import suppress
from typing import Any

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
    from generators.making.maker import Maker, failure
    from generators.making.spec import MakerSpec
    from generators.request import ImageRequest

    def say(message: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # the parent is gone, and the line is about to close
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    try:
        maker = Maker(MakerSpec.from_json(settings["spec"]), place=settings["place"])
        say({"ready": True})
        while (texts := asked.get()) is not None:
            maker.make([ImageRequest.from_json(text) for text in texts], say)
            say({"done": True})
    except (ValueError, RuntimeError, OSError, MemoryError, ImportError) as error:
        say(failure(error))


def _listen(asked: queue.SimpleQueue[Any]) -> None:
    for line in sys.stdin:
        asked.put(json.loads(line))
    asked.put(None)
    threading.Timer(_PATIENCE, os._exit, (1,)).start()
    _thread.interrupt_main(signal.SIGTERM)  # in the middle of an image there is nobody left to make it for
