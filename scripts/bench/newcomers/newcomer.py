"""Does in an empty folder what a page of the documentation says, a process a command, and times it."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY))

from tests.docs.pages import RUN, Block, read_page  # noqa: E402

_LINES = 40  # of what a step that failed said


def blocks_of(page: str, *, without: str = "") -> list[Block]:
    """What can be run of a page, and the files that it shows; no block in which `without` stands."""
    blocks = read_page(REPOSITORY / page).blocks
    return [
        block
        for block in blocks
        if (block.language in RUN or block.title)
        and not block.skip
        and not (without and without in block.text)
    ]


def walk(
    doc: str | None, blocks: Iterable[Block], *, picture: str, prepare: Callable[[Path], object]
) -> None:
    """Run the blocks in order; print the time of each command, and when the file `picture` was there.

    Args:
        doc: of the script, for `--help`.
        picture: the first useful picture, below the folder.
        prepare: puts into the empty folder what the user has before beginning; its time does not count.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, help="an empty or new folder; default: a temporary one, kept")
    parser.add_argument("--small", action="store_true", help="with the options of the documentation's tests")
    asked = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="newcomer-")) if asked.work is None else asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        raise SystemExit(f"{work} is not empty: a newcomer has made nothing yet. Name another folder.")
    prepare(work)
    print(f"in {work}\n| s | since the start, s | command |\n| --- | --- | --- |", flush=True)
    begun, seen = time.monotonic(), None
    for shown, words, code in _commands(blocks, work, small=asked.small):
        step = time.monotonic()
        _call(shown, words, work, code)
        now = time.monotonic()
        print(f"| {now - step:.0f} | {now - begun:.0f} | `{shown}` |", flush=True)
        if seen is None and (work / picture).exists():
            seen = now - begun
    if seen is None:
        raise SystemExit(f"no step made {picture}")
    print(f"first useful picture: {picture} after {seen / 60:.1f} minutes")


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


def _call(shown: str, words: list[str], work: Path, code: int) -> None:
    """What the command says goes to `.newcomer.txt`, and to the screen if it does not end as it should."""
    log = work / ".newcomer.txt"
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    # a first time has no cache
    environment = os.environ | {"PYTHONPATH": path, "PROMPTOPT_CACHE": str(work / ".cache")}
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"\n$ {shown}\n")
        stream.flush()
        done = subprocess.run(
            words,
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != code:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:]
        raise SystemExit("\n".join([*said, f"exit code {done.returncode} of: {shown}"]))


def study_files(work: Path) -> None:
    """The clone's study files, which pages name by `studies/files/...`."""
    shutil.copytree(REPOSITORY / "studies" / "files", work / "studies" / "files")
