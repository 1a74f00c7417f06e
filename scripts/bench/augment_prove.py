"""Do synthetic images help a classifier that has few real ones? Portfolio, baseline prompt, random prompts.

    python scripts/bench/augment_prove.py [--runs runs] [--store store] [--work work/prove]
        [--real-per-class 10 50] [--ratios 1 2] [--seeds 5] [--steps 100] [--image-size 32]
        [--kvasir runs/kvasir-polyps] [--allow-other-generator]

The phantom: the three quickstart studies (scripts/quickstart makes them). Real patches, where --kvasir names
the run of scripts/study_kvasir: polyps from its portfolio, normal mucosa from a plain prompt given by hand.
Printed are the tables of `promptopt augment --prove` and its verdict; what is made lies in --work, and a
second call makes and trains nothing twice.
"""

import argparse
import subprocess
import sys
from pathlib import Path

NORMAL = "normal=a colonoscopy image of normal mucosa"
QUICKSTART = ("quickstart-polyps", "quickstart-landmarks", "quickstart-instruments")


def prove(title: str, runs: list[Path], options: argparse.Namespace, *extra: str) -> None:
    out: Path = options.work / title.replace(" ", "-")
    command = [
        sys.executable, "-m", "promptopt", "augment", *map(str, runs), "--out", str(out), "--prove",
        "--store", str(options.store),
        "--real-per-class", ",".join(map(str, options.real_per_class)),
        "--ratios", ",".join(f"{ratio:g}" for ratio in options.ratios),
        "--seeds", str(options.seeds), "--steps", str(options.steps),
        "--image-size", str(options.image_size), *extra,
    ]  # fmt: skip
    if options.allow_other_generator:
        command.append("--allow-other-generator")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"\n## {title}\n\n{(out / 'proof.md').read_text(encoding='utf-8')}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--work", type=Path, default=Path("work/prove"))
    parser.add_argument("--real-per-class", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--ratios", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--kvasir", type=Path)
    parser.add_argument("--allow-other-generator", action="store_true")
    options = parser.parse_args()
    if all((options.runs / name / "prompts.json").exists() for name in QUICKSTART):
        prove("phantom", [options.runs / name for name in QUICKSTART], options)
    else:
        print(f"{options.runs}: no quickstart studies; run scripts/quickstart for the phantom's part")
    if options.kvasir is not None:
        prove("real patches", [options.kvasir], options, "--class", NORMAL)


if __name__ == "__main__":
    main()
