"""Many makers: are images lost or made twice when some are killed, and does the driver keep up with the rest?

    python scripts/bench/scale.py [--kills 3] [--minutes M] [--images 640] [--only TEXT]
        [--parts kills,makers,pictures] [--seed 0] [--work work/scale] [--smoke]

- kills: actors, nodes and drivers of a Ray cluster of two nodes on this machine (it listens on 127.0.0.1
  only) are killed at a random image of `study run`, `synthesize` and `augment`, so many times each. A command
  whose actor or node is killed has to end well. Then the same command runs again, to its end. What lies there
  is compared, byte by byte, with what one process alone makes. "Made twice": an image that was there when the
  kill came, and was written again, or one too many. Needs the extra `ray`.
- makers: 32 simulated makers that give 10 prepared images of 512x512 a second each, in a process of their
  own, in place of networks; engine, queue, stores and commands are the real ones. Printed is what the driver
  spends, in processor time, since other programs may run beside; "keeps up" says whether one core would do.
  The filters that look at the images are off, but for `black`. A million images is on paper: what each one
  more has cost. Then where the time of the driver's main thread goes, by function.
- pictures: what PNG files of 512x512 cost.

With --smoke everything is tiny, there are no kills, and the figures mean nothing. The exit status is 1 where
a kill cost an image or a byte.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "HF_HUB_OFFLINE"):
    os.environ.setdefault(_name, "1")  # a fork of a process whose libraries run threads may hang
os.environ["COLUMNS"] = "200"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench.fault_cases.processes import HEAVY  # noqa: E402
from scripts.bench.scale_cases import campaign, makers, pictures  # noqa: E402

PARTS = ("kills", "makers", "pictures")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=3, help="of each kind, of each command")
    parser.add_argument("--images", type=int, default=640, help="of each command, by simulated makers")
    parser.add_argument("--minutes", type=float, default=1e6, help="after which no more is killed")
    parser.add_argument("--only", default="", help="kills whose kind and command hold this text")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("work/scale"))
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--parts {options.parts!r}: choose from {', '.join(PARTS)}")
    if options.images < 64:
        parser.error(f"--images {options.images}: give 64 or more, since a quarter of them is made too")
    if "kills" in parts and not options.smoke and find_spec("ray") is None:
        parser.error("kills need Ray; pip install 'promptopt[ray]', or leave them out by --parts")
    work = options.work.absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    logging.disable(logging.WARNING)
    for name in HEAVY:
        importlib.import_module(name)
    logging.disable(logging.NOTSET)
    if "makers" in parts or "pictures" in parts:
        own = work / "makers"
        own.mkdir()
        images = 64 if options.smoke else options.images
        makers.prepare(own, pictures=4 if options.smoke else 16)
        if "makers" in parts:
            print(makers.table(makers.measure(own, images)), flush=True)
            found = {} if options.smoke else makers.terms(own, images // 4)
            for name, rows in found.items():
                print(f"\n{name}: " + "; ".join(f"{share:.0%} {where}" for share, where in rows), flush=True)
        if "pictures" in parts:
            paths = sorted((own / "pictures").glob("*.png"))
            print("\n" + pictures.table(paths, own / "put", rounds=1 if options.smoke else 5), flush=True)
    if "kills" in parts and not options.smoke:
        (work / "kills").mkdir()
        tallies = campaign.run(
            work / "kills",
            kills=options.kills,
            seed=options.seed,
            only=options.only,
            minutes=options.minutes,
        )
        print("\n" + campaign.table(tallies), flush=True)
        failures = [text for tally in tallies.values() for text in tally.failures]
        for text in failures:
            print(f"\n{text}")
        raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
