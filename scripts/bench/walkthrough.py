"""From a clean clone to a submission by the documentation's commands: what does each take, what comes out?

    python3 scripts/bench/walkthrough.py SOURCE [--work DIR]

SOURCE is kvasir-seg-patches (images/, prompt-gt.csv, images.jsonl). Any Python will do: the first step makes
.venv as scripts/quickstart does, every other one is a `promptopt` command of the tutorials, run in DIR (by
default the clone itself). What is made lies in DIR/work/kvasir, DIR/runs and DIR/store, which git ignores,
and what a step says in work/kvasir/walkthrough. A second call goes on where the first ended.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
TEST_PROMPTS = "Generate an image containing a polyp.\nGenerate an image with no polyps.\n"
COMMANDS = r"""
# install
bash -euc "source scripts/lib/venv.sh; prepare_venv ."
# prepared data
promptopt data prepare medvqa-gi-2024 SOURCE work/kvasir/data --center kvasir
# its check
promptopt data check work/kvasir/data
# its sheet
promptopt data sheet work/kvasir/data work/kvasir/data-sheet.png --per-category 20
# CLIP
promptopt train clip --init embedded --data work/kvasir/data --out work/kvasir/clip \
  --set steps=400 --set learning_rate=3e-4 --set warmup_steps=40
# Stable Diffusion
promptopt train sd --init embedded --data work/kvasir/data --out work/kvasir/sd --allow-embedded
# study
promptopt study run studies/files/kvasir-polyps.yaml
# portfolio, report
promptopt study show runs/kvasir-polyps
# list
promptopt export list runs/kvasir-polyps --out work/kvasir/best
# augmentation set
promptopt augment runs/kvasir-polyps --class "normal=a colonoscopy image of normal mucosa" \
  --per-class 500 --out work/kvasir/augmented
# its distance
promptopt evaluate work/kvasir/data work/kvasir/augmented --pool test --by category \
  --encoder work/kvasir/clip --allow-weak-encoder --out work/kvasir/evaluation
# proof
promptopt augment runs/kvasir-polyps --class "normal=a colonoscopy image of normal mucosa" \
  --prove --real-per-class 20,50,100 --ratios 0.5,1,2 --out work/kvasir/proof
# test prompts
promptopt synthesize --prompts work/kvasir/test-prompts.txt --generator work/kvasir/sd/pipeline \
  --guidance 2.0 --out work/kvasir/synthesis
# tables
promptopt tables runs/kvasir-polyps --out work/kvasir/paper
# submission
promptopt export submission runs/kvasir-polyps --edition gi-2024 --partial \
  --images work/kvasir/synthesis --out work/kvasir/submission
# its check again
promptopt export check work/kvasir/submission --data work/kvasir/data
"""
ENDED = {"augmentation set": (0, 1), "its check again": (0, 1)}  # 1: something is missing, or must not go out


def steps() -> dict[str, str]:
    """Name -> command, on one line."""
    lines = COMMANDS.strip().replace("\\\n  ", "").splitlines()
    return {name.removeprefix("# "): command for name, command in zip(lines[::2], lines[1::2], strict=True)}


def document(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def megabytes(*paths: Path) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 1e6:.1f} MB"


def shown(estimate: dict[str, Any], digits: int = 2, factor: float = 1) -> str:
    found = [estimate[end] for end in ("value", "low", "high") if estimate[end] is not None]
    value, *ends = [f"{factor * number:.{digits}f}" for number in found] or ["undefined"]
    return f"{value} ({' to '.join(ends)})" if ends else value


def prepared(here: Path, run: Path) -> str:
    pools = document(here / "data/prepare-report.json")["by_pool"]
    return "images: " + ", ".join(f"{name} {count}" for name, count in pools.items())


def clip(here: Path, run: Path) -> str:
    figures = document(here / "clip/metrics.json")["figures"]
    return f"zero-shot AUROC, polyp or not: {shown(figures['zero-shot AUROC, polyps'])}"


def generator(here: Path, run: Path) -> str:
    with (here / "sd/log.jsonl").open(encoding="utf-8") as stream:
        best = [event for event in map(json.loads, stream) if event["event"] == "best"][-1]
    return f"best validation {best['metric'].upper()} {best['value']:.4f}, at step {best['step']}"


def study(here: Path, run: Path) -> str:
    first = (found := document(run / "prompts.json"))["prompts"][0]
    claim = "better" if first["better_than_baseline"] else "not shown to be better"
    score = shown(first["confirmation"]["score"])
    return f"best of {found['prompts_scored']}: “{first['prompt']}” {score}, {claim} than the baseline"


def portfolio(here: Path, run: Path) -> str:
    listed = document(run / "prompts.json")["prompts"]
    shares = ", ".join(f"“{p['prompt']}” {p['weight']:.2f}" for p in listed if p["weight"])
    return f"{shares}; report.html {megabytes(run / 'report.html')}"


def augmented(here: Path, run: Path) -> str:
    classes = document(here / "augmented/augmentation.json")["classes"]
    return "; ".join(
        f"{c['name']}: {c['kept']} of {c['tried']} kept"
        + "".join(f", {count} refused by {name}" for name, count in c["removed"].items())
        for c in classes
    )


def evaluated(here: Path, run: Path) -> str:
    rows = [r for r in document(here / "evaluation/evaluation.json")["rows"] if r["part"] == "all"]
    wanted = ("RBF-MMD", "R->R", "S->R", "copies")
    return "; ".join(f"{r['name']} {shown(r['estimate'], 3)}" for r in rows if r["name"].startswith(wanted))


def proof(here: Path, run: Path) -> str:
    """The best ratio over real images alone, by learner and real images a class; p is Holm's over ratios."""
    best: dict[str, dict[str, Any]] = {}
    for one in document(here / "proof/proof.json")["comparisons"]:
        key = f"{one['learner']}, {one['real_per_class']} real"
        if one["question"] == "synthetic" and one["estimate"]["value"] is not None:
            best[key] = max(best.get(key, one), one, key=lambda c: c["estimate"]["value"])
    return "; ".join(f"{k}: {shown(c['estimate'], 1, 100)}, p {c['p_holm']:.2f}" for k, c in best.items())


FIGURES: dict[str, Callable[[Path, Path], str]] = {
    "prepared data": prepared,
    "CLIP": clip,
    "Stable Diffusion": generator,
    "study": study,
    "portfolio, report": portfolio,
    "augmentation set": augmented,
    "its distance": evaluated,
    "proof": proof,
    "submission": lambda here, run: megabytes(*(here / "submission").rglob("*")),
}


def call(command: str, source: Path, work: Path, log: Path) -> int:
    """The exit code. Progress bars go to the screen, the rest to `log`."""
    words = [str(source) if word == "SOURCE" else word for word in shlex.split(command)]
    if words[0] == "promptopt":
        words[0] = str(REPOSITORY / os.environ.get("PROMPTOPT_VENV", ".venv") / "bin/promptopt")
    with log.open("w", encoding="utf-8") as stream:
        folder = REPOSITORY if words[0] == "bash" else work
        return subprocess.run(words, cwd=folder, stdout=stream, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--work", type=Path, default=REPOSITORY)
    options = parser.parse_args()
    work = options.work.resolve()
    here, run = work / "work/kvasir", work / "runs/kvasir-polyps"
    logs, times = here / "walkthrough", here / "walkthrough/times.json"
    logs.mkdir(parents=True, exist_ok=True)
    (here / "test-prompts.txt").write_text(TEST_PROMPTS, encoding="utf-8")
    if work != REPOSITORY:  # a study file names its data relative to itself
        shutil.copytree(REPOSITORY / "studies/files", work / "studies/files", dirs_exist_ok=True)
    known = document(times) if times.exists() else {}
    print("| step | command | wall time, s | what came out |\n| --- | --- | --- | --- |", flush=True)
    for number, (name, command) in enumerate(steps().items()):
        log, ended = logs / f"{number:02d}.txt", ENDED.get(name, (0,))
        entry = known.get(command, {"code": None, "seconds": 0.0})
        if entry["code"] not in ended:
            print(f"== {name}: {command}", file=sys.stderr, flush=True)
            begun = time.monotonic()
            try:
                entry["code"] = call(command, options.source.resolve(), work, log)
            finally:  # a step that is stopped goes on with the same command, and its times add up
                entry["seconds"] += time.monotonic() - begun
                known[command] = entry
                times.write_text(json.dumps(known, indent=1), encoding="utf-8")
        if entry["code"] not in ended:
            raise SystemExit(f"{name}: exit code {entry['code']}; what it said is in {log}")
        said = log.read_text(encoding="utf-8").strip().splitlines()
        out = FIGURES[name](here, run) if name in FIGURES else said[-1] if said else ""
        print(f"| {name} | `{command}` | {entry['seconds']:.0f} | {out} |", flush=True)


if __name__ == "__main__":
    main()
