"""A study that is killed again and again: does it end with the very files of one that was left alone?

    python scripts/bench/kill_study.py [--kills 20] [--seed 0] [--squares] [--workers 1]

A small study runs without interruption. Then it runs in fresh folders, its whole process group is killed
(SIGKILL) and it is started again, as often as asked. The moments are random and spread over the whole run: a
tenth before the search begins, most before the confirmation ends, a quarter while the results are written. At
last it is left to end, and the files are compared byte for byte. With --squares the
images are drawn in no time, so that nearly all kills fall into proposals and database writes.
"""

import argparse
import contextlib
import importlib
import json
import os
import queue
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ("prompts.json", "trials.csv", "confirmation.csv", "effects.csv")
HEAVY = (
    "optuna,sqlalchemy,scipy.optimize,sklearn.linear_model,jinja2,rich.progress,torch,open_clip,"
    "transformers.models.clip.modeling_clip,diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion,"
    "promptopt.study.run,promptopt.cli.main,promptopt.study.report,generators.stable_diffusion.diffusion,evaluation.encoders.open_clip_folder"
)


def squares(runs: str, store: str) -> None:
    """`promptopt study run` with objects that draw squares and look at colors."""
    from promptopt.cli._live import LiveStudy
    from promptopt.config.study_file import study_from_mapping
    from promptopt.study.run import run_study
    from tests.promptopt.fakes import ColorEncoder, SquareGenerator

    config = study_from_mapping(json.loads(Path("study.yaml").read_text()))
    with LiveStudy() as live:
        run_study(
            config,
            runs=Path(runs),
            store=Path(store),
            observer=live,
            generator=SquareGenerator(),
            encoder=ColorEncoder(),
        )


def embedded() -> dict[str, Any]:
    return {
        "name": "killed",
        "aim": "single",
        "category": "polyps",
        "data": {"phantom": {"images": 200}},
        "generator": {"uri": "embedded", "steps": 4},
        "search": {"trials": 14, "images": 4, "stop": None},
        "confirm": {"top": 2, "images": 8, "second_encoder": "thumbnail"},
    }


class Run:
    """A process of its own session that runs the study, and what it says.

    It is forked, so that the libraries, most of a second start's work, are imported once for all of them.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        ears, mouth = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._be(folder, options, mouth)
        os.close(mouth)
        self._code: int | None = None
        threading.Thread(target=self._listen, args=(ears, options.work), daemon=True).start()

    def _be(self, folder: Path, options: argparse.Namespace, mouth: int) -> None:
        code = 1
        try:
            os.setsid()
            os.dup2(mouth, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.chdir(options.work)
            places = [str(folder / "runs"), str(folder / "store")]
            if options.squares:
                squares(*places)
            else:
                from promptopt.cli.main import main as promptopt

                arguments = ["study", "run", "study.yaml", "--runs", places[0], "--store", places[1]]
                promptopt([*arguments, "--workers", str(options.workers)], standalone_mode=False)
            code = 0
        except Exception:  # noqa: BLE001  whatever it is, it must not go on as the parent
            traceback.print_exc()
        finally:
            os._exit(code)

    def _listen(self, ears: int, work: Path) -> None:
        with os.fdopen(ears) as lines:
            for line in lines:
                self.heard.put(line)
                with (work / "stderr.txt").open("a") as log:
                    log.write(line)
        self.heard.put(None)

    def wait(self) -> int:
        """Its exit status."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def kill(self) -> bool:
        """Kill its session; whether it was still running."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

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


def until_the_end(folder: Path, options: argparse.Namespace) -> tuple[float, float, float]:
    """Seconds to the begin of the search, from there to the ranking, and from there to the end."""
    begun = time.monotonic()
    run = Run(folder, options)
    run.phases("search", 600)
    searching = time.monotonic()
    run.phases("writing", 600)
    writing = time.monotonic()
    run.phases("ended", 600)
    if run.wait() != 0:
        raise SystemExit(f"the study failed; see {options.work / 'stderr.txt'}")
    return searching - begun, writing - searching, time.monotonic() - writing


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
    sys.path.insert(0, str(REPOSITORY))
    for name in HEAVY.split(","):
        importlib.import_module(name)
    if options.squares:
        from tests.promptopt.fakes import study, write_squares

        write_squares(options.work / "data")
        changes = {"search": {"trials": 40, "images": 4, "stop": None}}
        content = study(options.work, data=str(options.work / "data"), **changes)
    (options.work / "study.yaml").write_text(json.dumps(content))  # JSON is YAML
    whole, cut = options.work / "whole", options.work / "cut"
    preparing, working, writing = until_the_end(whole, options)
    rng = random.Random(options.seed)
    late, early = options.kills // 4, options.kills // 10
    counts: Counter[str] = Counter()
    number = 0
    while number < options.kills:
        run = Run(cut, options)
        if number < early:
            phase, pause = "start", rng.uniform(0, preparing)
        elif number < options.kills - late:
            # As much as brings it to the end with the last of them.
            phase = run.phases("search", 600)
            pause = rng.uniform(0, 2 * working / (options.kills - late - early))
        else:
            phase = run.phases("writing", 600)
            pause = rng.uniform(0, writing)
        time.sleep(pause)
        phase = {"search": "search or confirmation"}.get(phase, phase)
        if not run.kill():  # too late: the machine has become faster
            working, writing = 0.7 * working, 0.7 * writing
            continue
        counts[phase] += 1
        number += 1
        print(f"kill {number}: {phase}, {pause:.2f} s in", file=sys.stderr, flush=True)
    until_the_end(cut, options)
    one, other = results(whole), results(cut)
    print("| kills before the search | in search or confirmation | while writing |", end="")
    print("".join(f" {name} |" for name in FILES))
    print("| --- " * (3 + len(FILES)) + "|")
    cells = [str(counts[key]) for key in ("start", "search or confirmation", "writing")]
    cells += ["equal" if one[name] == other[name] else "DIFFERS" for name in FILES]
    print("| " + " | ".join(cells) + " |")
    left = [path for path in cut.rglob("*") if path.name.endswith((".partial", ".tmp"))]
    images = [sum(1 for _ in folder.glob("store/images/*/*.png")) for folder in (whole, cut)]
    print(f"\nImages in the store: {images[0]} and {images[1]}; leftover partial files: {len(left)}.")
    if one != other:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
