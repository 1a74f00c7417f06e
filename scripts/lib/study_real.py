"""The steps of scripts/study_real, each a command that a user could type; see there."""

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from promptopt.cli.main import main as promptopt

GRAMMAR = Path(__file__).resolve().parents[2] / "studies" / "files" / "endoscopy-words.yaml"
CLASSES = ("polyps", "normal", "instruments")
TARGET = ["brightness=dim"]


def changes(settings: dict[str, object]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


FULL: dict[str, dict[str, object]] = {
    "sd": {
        **{"training.steps": 1500, "training.lr": 4e-4, "training.text_encoder_lr": 4e-4},
        **{"training.horizontal_flip": "swap", "validation.every": 0},
    },
    "generator": {"steps": 12},
    "set": {"budget": 320, "images": 4},
    "confirm": {"images": 96, "classifier": {"seeds": 5, "steps": 300, "images": 96}},
    "augment": {"--per-class": 100},
    "prove": {
        **{"--real-per-class": "10,20", "--ratios": 4, "--seeds": 5, "--steps": 300},
        "--compare": "baseline,random,captions,learned",
    },
}
SMALL: dict[str, dict[str, object]] = {
    "sd": {
        **{"vae_training.steps": 2, "training.steps": 2, "training.batch_size": 4, "validation.every": 0},
        "vae_training.held_out": 4,
    },
    "generator": {"steps": 2, "batch_size": 4},  # a short batch is filled up, which costs as much
    "set": {"budget": 16, "images": 2, "prompts": 2},
    "confirm": {"images": 4, "classifier": {"seeds": 2, "steps": 2, "images": 4}},
    "augment": {"--per-class": 2, "--filters": "black"},
    "prove": {
        **{
            "--real-per-class": 2,
            "--ratios": 1,
            "--seeds": 2,
            "--steps": 2,
            "--compare": "baseline,captions",
        },
        **{"--classifiers": "network", "--image-size": 16, "--filters": "black"},
    },
}


class Steps:
    """Runs commands of promptopt, shows each as one would type it, and how long it took."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}

    def run(self, name: str, *arguments: object, done: Path | None = None) -> None:
        """Leave a step out whose result ``done`` is there: its inputs cannot have changed."""
        words = [str(argument) for argument in arguments]
        if done is not None and done.exists():
            print(f"== {name}: {done} is there", flush=True)
            return
        print(f"== {name}: promptopt {shlex.join(words)}", flush=True)
        began = time.perf_counter()
        if promptopt(words, standalone_mode=False):
            raise SystemExit(f"{name} failed; see above, then run the same again")
        self.times[name] = time.perf_counter() - began
        print(f"== {name} took {self.times[name]:.0f} s", flush=True)

    def table(self) -> None:
        print("\n| step | seconds |\n| --- | ---: |")
        for name, seconds in self.times.items():
            print(f"| {name} | {seconds:.0f} |")
        print(f"| all | {sum(self.times.values()):.0f} |", flush=True)


def write_study(
    work: Path, name: str, encoder: str, guidance: float, size: dict[str, dict[str, object]]
) -> Path:
    """The study file, its paths relative to itself; one that is there stays as it was edited."""
    path = work / f"{name}.yaml"
    if not path.exists():
        study = {
            "name": name,
            "classes": {label: {"category": f"{name}-{label}.yaml"} for label in CLASSES},
            "data": name,
            "generator": {"uri": "sd/pipeline", "guidance": guidance, **size["generator"]},
            # whole batches of 32 images
            "search": {"proposals_per_step": 8},
            "encoder": encoder,
            "set": size["set"],
            "confirm": size["confirm"],
            "seed": 0,
        }
        path.write_text(yaml.safe_dump(study, sort_keys=False), "utf-8")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--where", action="append", help="what the target hospital's pictures have in common")
    parser.add_argument("--any", action="store_true", help="one --where is enough")
    parser.add_argument("--name", default="target", help="of the target hospital")
    parser.add_argument("--reference", type=int, default=40, help="real pictures a class to look at")
    parser.add_argument("--encoder", default="thumbnail", help="timm:NAME@FILE sees more")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--work", type=Path, default=Path("work/real"))
    parser.add_argument("--small", action="store_true", help="a size for a test: nothing is learned")
    options = parser.parse_args(arguments)
    size = SMALL if options.small else FULL
    work, name = options.work, options.name
    data, target, run = work / "data", work / name, work / "runs" / name
    store = ("--store", work / "store")
    steps = Steps()
    steps.run(
        "prepare", "data", "prepare", "medvqa-gi-2024", options.source, data, "--grammar", GRAMMAR,
        done=data / "metadata.jsonl",
    )  # fmt: skip
    where = [word for one in options.where or TARGET for word in ("--where", one)]
    held_out = ("--validation", 0.3, "--limit", f"reference={options.reference}", "--name", name)
    steps.run(
        "select", "data", "select", data, target, *where, *["--any"] * options.any, *held_out,
        done=target / "metadata.jsonl",
    )  # fmt: skip
    for label in CLASSES:  # from the target's own pictures: their shares of words are where the search begins
        file = work / f"{name}-{label}.yaml"
        words = ("--label", label, "--out", file, "--pool", "reference", "--grammar", GRAMMAR)
        steps.run(f"mine {label}", "template", "mine", target, *words, done=file)
    steps.run(
        "train", "train", "sd", "--init", "embedded", "--data", data, "--out", work / "sd", *store,
        "--allow-embedded", *changes(size["sd"]), done=work / "sd" / "pipeline" / "model_index.json",
    )  # fmt: skip
    study = write_study(work, name, options.encoder, options.guidance, size)
    steps.run("study", "study", "run", study, "--runs", run.parent, *store)
    given = [word for pair in size["augment"].items() for word in pair]
    steps.run("augment", "augment", run, "--out", work / f"{name}-set", *given, *store)
    given = [word for pair in size["prove"].items() for word in pair]
    steps.run(
        "prove", "augment", run, "--out", work / f"{name}-proof", "--prove", "--generator-data", data,
        *given, *store,
    )  # fmt: skip
    steps.table()
    print((work / f"{name}-proof" / "proof.md").read_text("utf-8"))
    sets = json.loads((run / "prompts.json").read_text("utf-8"))
    print(f"study: {run / 'report.html'}; {sum(len(c['set']['prompts']) for c in sets['classes'])} prompts")


if __name__ == "__main__":
    main()
