"""Does in an empty folder what a page of the documentation says, a process a command, and times it."""

import argparse
import contextlib
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY))

from tests.docs.pages import RUN, Block, read_page  # noqa: E402

_LINES = 40  # of what a step that failed said


def blocks_of(page: str, *, without: Sequence[str] = ()) -> list[Block]:
    """What can be run of a page, and the files that it shows; no block that has a text of `without`."""
    blocks = read_page(REPOSITORY / page).blocks
    return [
        block
        for block in blocks
        if (block.language in RUN or block.title)
        and not block.skip
        and not any(text in block.text for text in without)
    ]


def walk(
    doc: str | None,
    blocks: Iterable[Block],
    *,
    pictures: Sequence[str],
    prepare: Callable[[Path], object],
    own: Sequence[argparse.ArgumentParser] = (),
) -> None:
    """Run the blocks in order; print the time of each command, and when each of `pictures` was there.

    Args:
        doc: of the script, for `--help`.
        pictures: useful ones, below the folder, from the first to the best.
        prepare: puts into the empty folder what the user has before beginning; its time does not count.
        own: options of the script besides.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawTextHelpFormatter, parents=list(own)
    )
    parser.add_argument("--work", type=Path, help="an empty or new folder; default: a temporary one, kept")
    parser.add_argument("--small", action="store_true", help="with the options of the documentation's tests")
    asked = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="newcomer-")) if asked.work is None else asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        raise SystemExit(f"{work} is not empty: a newcomer has made nothing yet. Name another folder.")
    prepare(work)
    print(f"in {work}\n| s | CPU s | since the start, s | CPU s | command |", flush=True)
    print("| --- | --- | --- | --- | --- |", flush=True)
    begun, awaited = _clock(), list(pictures)

    def look() -> None:
        for name in awaited[:]:
            if (work / name).exists():
                awaited.remove(name)
                wall, cpu = (_clock() - begun) / 60
                print(f"{name} after {wall:.1f} minutes, {cpu:.1f} of a CPU", flush=True)

    for shown, words, code in _commands(blocks, work, small=asked.small):
        step = _clock()
        _call(shown, words, work, code, look)
        now = _clock()
        one, all_ = now - step, now - begun
        print(f"| {one[0]:.0f} | {one[1]:.0f} | {all_[0]:.0f} | {all_[1]:.0f} | `{shown}` |", flush=True)
    if awaited:
        raise SystemExit(f"no step made {', '.join(awaited)}")


def _clock() -> np.ndarray:
    """Seconds on the wall, and of CPU time in the commands, those that have ended and the one that runs."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = ended.ru_utime + ended.ru_stime
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            cpu += used.user + used.system + used.children_user + used.children_system
    return np.array([time.monotonic(), cpu])


def _commands(blocks: Iterable[Block], work: Path, *, small: bool) -> Iterator[tuple[str, list[str], int]]:
    """As shown, as called, and the exit code that is right. Files are written when it is their turn."""
    for block in blocks:
        if block.title:
            (work / block.title).parent.mkdir(parents=True, exist_ok=True)
            (work / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            yield block.text.strip().splitlines()[-1], [sys.executable, "-c", block.text], block.exit
        else:
            commands = list(block.commands())
            for number, command in enumerate(commands, start=1):
                words = shlex.split(command, comments=True)
                further = [
                    word
                    for name in sorted(block.options, key=len)
                    if small and words[1:][: len(name.split())] == name.split()
                    for word in block.options[name]
                ]
                shown = shlex.join([*words, *further])
                if words[0] == "promptopt":
                    words[:1] = [sys.executable, "-m", "promptopt"]
                elif words[0] == "python":
                    words[0] = sys.executable
                yield shown, [*words, *further], block.exit if number == len(commands) else 0


def _call(shown: str, words: list[str], work: Path, code: int, look: Callable[[], None]) -> None:
    """What the command says goes to `.newcomer.txt`, and to the screen if it does not end as it should."""
    log = work / ".newcomer.txt"
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    # a first time has no cache
    environment = os.environ | {"PYTHONPATH": path, "PROMPTOPT_CACHE": str(work / ".cache")}
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"\n$ {shown}\n")
        stream.flush()
        done = subprocess.Popen(
            words, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
        while done.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                done.wait(timeout=1)
            look()
    if done.returncode != code:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:]
        raise SystemExit("\n".join([*said, f"exit code {done.returncode} of: {shown}"]))


def study_files(work: Path) -> None:
    """The clone's study files, which pages name by `studies/files/...`."""
    shutil.copytree(REPOSITORY / "studies" / "files", work / "studies" / "files")
