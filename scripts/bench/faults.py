"""Kills, damage, full disks, bad input and attacks: how many were tried, and how many held.

    python scripts/bench/faults.py [--kills 100] [--damage 60] [--disk 40] [--input 200] [--security 40]
        [--seed 0] [--only TEXT] [--work work/faults] [--reuse] [--list]

Everything runs `promptopt` itself, in processes that are forked from this one, over a phantom of 240 pictures
and networks of some ten thousand weights. A case holds if

- after a kill (SIGKILL at a random moment), or on a disk that was full and has room again, the same command
  ends with the files of a run that was left alone, and leaves nothing behind;
- a damaged file is mended, or refused by name, and no result is another one;
- bad input is refused in a sentence, and what attacks does nothing.

No case may end in a traceback. The table and every failure, with the command that shows it, are printed; the
exit status is 1 if there is one. Kinds with a fixed list of cases (input, security) run as many as there are.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "HF_HUB_OFFLINE"):
    os.environ.setdefault(_name, "1")  # a fork of a process whose libraries run threads may hang
os.environ["COLUMNS"] = "200"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench.fault_cases import damage, disk, inputs, jobs, kills, security  # noqa: E402
from scripts.bench.fault_cases.processes import HEAVY, CaseError  # noqa: E402

KINDS = {"kills": 100, "damage": 60, "disk": 40, "input": 200, "security": 40}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for kind, count in KINDS.items():
        parser.add_argument(f"--{kind}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose kind and name hold this text")
    parser.add_argument("--work", type=Path, default=Path("work/faults"))
    parser.add_argument("--reuse", action="store_true", help="what WORK holds already, of this very version")
    parser.add_argument("--list", action="store_true", help="print the cases and run none")
    options = parser.parse_args()
    work = options.work.absolute()
    if not options.reuse:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)
    for name in HEAVY:
        importlib.import_module(name)
    logging.disable(logging.NOTSET)
    began = time.monotonic()
    found = jobs.build(work, reuse=options.reuse)
    wanted = {kind: getattr(options, kind) for kind in KINDS}
    chance = {kind: random.Random(f"{options.seed} {kind}") for kind in KINDS}
    sources: dict[str, Iterable[tuple[str, Callable[[], None]]]] = {
        "kills": kills.cases(work, found, chance["kills"]),
        "damage": damage.cases(work, found, chance["damage"]),
        "disk": disk.cases(work, found, chance["disk"]),
        "input": inputs.cases(work, chance["input"]),
        "security": security.cases(work, chance["security"]),
    }
    if wanted["disk"] and not disk.possible():
        print("disk: left out, since it needs Linux and the right to mount", file=sys.stderr)
        wanted["disk"] = 0
    tally: dict[str, list[int]] = {}
    failures: list[str] = []
    for kind, source in sources.items():
        held = tried = 0
        for name, case in _chosen(source, kind, options.only, wanted[kind]):
            if options.list:
                print(f"{kind}: {name}")
                continue
            tried += 1
            try:
                case()
                held += 1
                print(f"held {kind}: {name}", file=sys.stderr, flush=True)
            except Exception as error:  # noqa: BLE001  one broken case must not end the others
                failed = error if isinstance(error, CaseError) else CaseError(f"the case itself: {error!r}")
                failures.append(f"{kind}: {name}: {failed}\n    {failed.command}")
                print(f"FAILED {failures[-1]}", file=sys.stderr, flush=True)
        tally[kind] = [held, tried]
        print(f"{kind}: {held} of {tried} held", file=sys.stderr, flush=True)
    if options.list:
        return
    print("| kind | held | tried |\n| --- | ---: | ---: |")
    for kind, (held, tried) in tally.items():
        print(f"| {kind} | {held} | {tried} |")
    print(f"\nSeed {options.seed}; {time.monotonic() - began:.0f} s.")
    for failure in failures:
        print(f"\n{failure}")
    raise SystemExit(1 if failures else 0)


def _chosen(
    source: Iterable[tuple[str, Callable[[], None]]], kind: str, only: str, count: int
) -> Iterable[tuple[str, Callable[[], None]]]:
    """The first `count` whose kind and name hold a text; endless sources are given up after a while."""
    if count <= 0:
        return ()
    within = islice(source, 50 * count + 1000)
    return islice((case for case in within if only in f"{kind}: {case[0]}"), count)


if __name__ == "__main__":
    main()
