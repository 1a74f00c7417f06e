"""A study that is killed again and again: does it end with the very files of one that was left alone?

    python scripts/bench/kill_study.py [--kills 20] [--seed 0] [--squares] [--workers 1]

A small study runs from the command line without interruption. Then it runs in fresh folders, its whole process
group is killed (SIGKILL) and it is started again, as often as asked. The moments are random and spread over
the whole run: most fall between the begin of the search and the end of the confirmation, a quarter while the
results are written. At last it is left to end, and the files are compared byte for byte. With --squares the
images are drawn in no time, so that nearly all kills fall into proposals and database writes.
"""

import argparse
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ("prompts.json", "trials.csv", "confirmation.csv", "effects.csv")
SQUARES = """
import json, sys
from pathlib import Path
from promptopt.commands._live import LiveStudy
from promptopt.config import study_from_mapping
from promptopt.study import run_study
from tests.promptopt.fakes import ColorEncoder, SquareGenerator
config = study_from_mapping(json.loads(Path("study.yaml").read_text()))
with LiveStudy() as live:
    run_study(config, runs=Path(sys.argv[1]), store=Path(sys.argv[2]), observer=live,
              generator=SquareGenerator(), encoder=ColorEncoder())
"""


def embedded() -> dict[str, Any]:
    return {
        "name": "killed",
        "category": "polyps",
        "data": {"phantom": {"images": 200}},
        "generator": {"uri": "embedded", "steps": 4},
        "search": {"trials": 14, "images": 4, "stop": None},
        "confirm": {"top": 2, "images": 8, "second_encoder": "thumbnail"},
    }


@dataclass
class Run:
    """One process, and when it said to be where."""

    process: subprocess.Popen[str]
    begun: float
    heard: "queue.SimpleQueue[str | None]"

    def phases(self, wanted: str, seconds: float) -> str:
        """Wait for a phase, or for so many seconds; the phase it is in then ("ended" when it is over)."""
        phase, until = "start", time.monotonic() + seconds
        while phase not in (wanted, "ended"):
            try:
                line = self.heard.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if line is None:
                phase = "ended"
            elif " trials" in line and "images each" in line:
                phase = "search"
            elif line.startswith(("confirmed:", "writing the report")):
                phase = "writing"
        return phase


def start(folder: Path, options: argparse.Namespace) -> Run:
    if options.squares:
        command = [sys.executable, "-c", SQUARES, str(folder / "runs"), str(folder / "store")]
    else:
        places = ["--runs", str(folder / "runs"), "--store", str(folder / "store")]
        command = [sys.executable, "-m", "promptopt", "study", "run", "study.yaml", *places]
        command += ["--workers", str(options.workers)]
    process = subprocess.Popen(
        command,
        cwd=options.work,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            heard.put(line)
            with (options.work / "stderr.txt").open("a") as log:
                log.write(line)
        heard.put(None)

    threading.Thread(target=listen, daemon=True).start()
    return Run(process, time.monotonic(), heard)


def until_the_end(folder: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds from the begin of the search to the ranking, and from there to the end."""
    run = start(folder, options)
    run.phases("search", 600)
    searching = time.monotonic()
    run.phases("writing", 600)
    writing = time.monotonic()
    run.phases("ended", 600)
    if run.process.wait() != 0:
        raise SystemExit(f"the study failed; see {options.work / 'stderr.txt'}")
    return writing - searching, time.monotonic() - writing


def kill(run: Run) -> bool:
    """Whether it was still running."""
    running = run.process.poll() is None
    if running:
        os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()
    return running


def results(folder: Path) -> dict[str, bytes]:
    (own,) = (folder / "runs").iterdir()
    return {name: (own / name).read_bytes() for name in FILES}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--squares", action="store_true", help="drawn squares instead of the embedded model")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("work/kill-study"))
    options = parser.parse_args()
    options.work = options.work.absolute()
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    content = embedded()
    if options.squares:
        sys.path.insert(0, str(REPOSITORY))
        from tests.promptopt.fakes import study, write_squares

        write_squares(options.work / "data")
        changes = {"search": {"trials": 40, "images": 4, "stop": None}}
        content = study(options.work, data=str(options.work / "data"), **changes)
    (options.work / "study.yaml").write_text(json.dumps(content))  # JSON is YAML
    whole, cut = options.work / "whole", options.work / "cut"
    working, writing = until_the_end(whole, options)
    rng = random.Random(options.seed)
    late = options.kills // 4
    counts: Counter[str] = Counter()
    for number in range(options.kills):
        run = start(cut, options)
        if number < options.kills - late:
            # As much as brings it to the end with the last of them.
            phase = run.phases("search", 600)
            pause = rng.uniform(0, 2 * working / (options.kills - late))
        else:
            phase = run.phases("writing", 600)
            pause = rng.uniform(0, writing)
        time.sleep(pause)
        phase = {"search": "search or confirmation"}.get(phase, phase)
        if not kill(run):
            phase = "after its end"
        counts[phase] += 1
        print(f"kill {number + 1}: {phase}, {pause:.2f} s in", file=sys.stderr, flush=True)
    until_the_end(cut, options)
    one, other = results(whole), results(cut)
    print("| kills in search or confirmation | while results were written | after the end |", end="")
    print("".join(f" {name} |" for name in FILES))
    print("| --- " * (3 + len(FILES)) + "|")
    cells = [str(counts[key]) for key in ("search or confirmation", "writing", "after its end")]
    cells += ["equal" if one[name] == other[name] else "DIFFERS" for name in FILES]
    print("| " + " | ".join(cells) + " |")
    left = [path for path in cut.rglob("*") if path.name.endswith((".partial", ".tmp"))]
    images = [sum(1 for _ in folder.glob("store/images/*/*.png")) for folder in (whole, cut)]
    print(f"\nImages in the store: {images[0]} and {images[1]}; leftover partial files: {len(left)}.")
    if one != other:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
