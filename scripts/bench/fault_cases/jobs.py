"""The commands that are disturbed: each with what it writes, over a small phantom and tiny networks."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.bench.fault_cases.processes import CaseError, call, digests, rubbish

MICRO: dict[str, Any] = {
    "size": 16,
    "tokenizer": {"vocab_size": 540},
    "text_encoder": {"hidden_size": 16, "intermediate_size": 16, "layers": 1, "heads": 2},
    "vae": {"channels": [8, 8], "latent_channels": 2, "norm_groups": 4},
    "unet": {"channels": [8, 16], "attention": [False, True], "head_dim": 8, "norm_groups": 4},
    "vae_training": {"steps": 8, "batch_size": 4, "warmup": 1, "checkpoint_every": 2},
    "training": {
        "steps": 12,
        "batch_size": 4,
        "warmup": 1,
        "checkpoint_every": 2,
        "long_captions": "cut",
    },
    "validation": {"every": 4, "images": 4, "steps": 2},
    "export_dtype": "float32",
}
LORA: dict[str, Any] = {
    "size": 32,
    "vae_training": {"steps": 0},
    "lora": {"rank": 2},
    "dreambooth": {"per": "category", "class_images": 4, "class_steps": 2},
    "training": {"steps": 8, "batch_size": 2, "warmup": 1, "checkpoint_every": 2},
    "validation": {"every": 4, "images": 2, "steps": 2},
}
CLIP: dict[str, Any] = {
    "kind": "clip",
    "steps": 12,
    "batch_size": 8,
    "warmup_steps": 1,
    "save_every": 3,
    "model": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": {"context_length": 77, "width": 16, "heads": 2, "layers": 1},
    },
}
CATEGORY: dict[str, Any] = {
    "name": "polyps",
    "title": "Polyps",
    "template": "a {|pale|red|dark} {|flat|large} polyp{|, sharp|, dim}",
    "wildcards": {},
    "texts": ["a polyp", "a large polyp"],
    "distractors": {"normal": ["normal mucosa"], "tool": ["a biopsy forceps"]},
    "baseline": "a polyp",
}
"""Short prompts: the tiny network's tokens are bytes."""
_BUILT = ".built"
PROMPTS = "a polyp\na pale polyp, sharp\n=1+1 a polyp\n"


@dataclass
class Job:
    """A command that writes a folder.

    Attributes:
        name: of the command.
        argv: its arguments, given the folder that it writes to.
        results: patterns of the files that have to be equal, below that folder.
        seconds: an undisturbed run takes.
        expected: digests of an undisturbed run.
    """

    name: str
    argv: Callable[[Path], list[object]]
    results: tuple[str, ...]
    seconds: float = 0.0
    expected: dict[str, str] = field(default_factory=dict)

    def measure(self, work: Path) -> None:
        """Run it undisturbed, unless that was done before in this folder."""
        if self.expected:
            return
        out, kept = work / "whole" / self.name, work / "whole" / f"{self.name}.json"
        if kept.exists():
            self.seconds, self.expected = json.loads(kept.read_text(encoding="utf-8"))
            return
        begun = time.monotonic()
        call(*self.argv(fresh(out)), work=work).check(refused=False)
        self.seconds = time.monotonic() - begun
        self.expected = digests(out, self.results)
        if not self.expected:
            raise CaseError(f"{self.name}: wrote nothing that is compared")
        kept.write_text(json.dumps([self.seconds, self.expected]), encoding="utf-8")

    def compare(self, out: Path, command: str) -> None:
        """Raises CaseError where its results are other than those of an undisturbed run."""
        found = digests(out, self.results)
        differing = sorted(
            name for name in {*found, *self.expected} if found.get(name) != self.expected.get(name)
        )
        if differing:
            raise CaseError(f"{len(differing)} files differ, such as {differing[0]}", command)
        if left := rubbish(out):
            raise CaseError(f"left {len(left)} files behind, such as {left[0]}", command)


def fresh(folder: Path) -> Path:
    """The folder's path, with nothing there and its parent made."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def build(work: Path, *, reuse: bool = False) -> dict[str, Job]:
    """The data, the networks and the finished runs that the jobs start from, and the jobs.

    With `reuse` they are taken as an earlier call left them.
    """
    if not (reuse and (work / _BUILT).exists()):
        _make(work)
        (work / _BUILT).touch()
    return {job.name: job for job in _jobs(work)}


def _make(work: Path) -> None:
    from tests.generators.micro import build_micro_pipeline

    build_micro_pipeline(work / "micro")
    call("data", "prepare", "phantom", "data", "--images", "240", "--size", "32", work=work).check(
        refused=False
    )
    _organizers(work)
    for name, content in (("micro", MICRO), ("lora", LORA), ("clip", CLIP), ("study", _study(work))):
        (work / f"{name}.yaml").write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    (work / "sets.yaml").write_text(json.dumps(_sets(work)), encoding="utf-8")
    (work / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    for name in ("study", "sets"):
        done = call("study", "run", f"{name}.yaml", "--runs", "runs", "--store", "store", work=work)
        done.check(refused=False)


def _study(work: Path) -> dict[str, Any]:
    return {
        "name": "polyps",
        "aim": "single",
        "category": CATEGORY,
        "data": str(work / "data"),
        "generator": {"uri": str(work / "micro"), "steps": 2},
        "search": {"trials": 5, "images": 4, "stop": None},
        "confirm": {"top": 2, "images": 8, "second_encoder": "thumbnail"},
    }


def _sets(work: Path) -> dict[str, Any]:
    return {
        "name": "sets",
        "aim": "set",
        "category": CATEGORY,
        "data": str(work / "data"),
        "generator": {"uri": str(work / "micro"), "steps": 2},
        "search": {"max_images": 24},
        "confirm": {"images": 8, "second_encoder": "thumbnail"},
    }


def _organizers(work: Path) -> None:
    """The layout of MEDVQA-GI 2024, with some of the phantom's pictures."""
    from studies.dataset import read_dataset

    dataset = read_dataset(work / "data")
    images = work / "organizers" / "images"
    images.mkdir(parents=True)
    rows = ["Prompt;Filename"]
    for record in list(dataset)[:30]:
        name = Path(record.file_name).name
        shutil.copyfile(dataset.path(record), images / name)
        rows += [f'"{text}";{name}' for text in dict.fromkeys(record.text[:2])]
    (work / "organizers" / "prompt-gt.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _jobs(work: Path) -> list[Job]:
    weights = ("**/*.safetensors", "**/model_index.json", "**/adapter_config.json")
    final = tuple(f"{place}/{one}" for place in ("pipeline", "lora") for one in weights)
    augment = ["augment", "runs/polyps", "--per-class", "6", "--filters", "black", "--store"]

    def study(name: str) -> Callable[[Path], list[object]]:
        return lambda out: ["study", "run", f"{name}.yaml", "--runs", out / "runs", "--store", out / "store"]

    return [
        Job("study", study("study"), ("runs/*/prompts.json", "runs/*/*.csv")),
        Job("study of sets", study("sets"), ("runs/*/prompts.json", "runs/*/*.csv")),
        Job(
            "train sd",
            lambda out: [
                "train",
                "sd",
                "--data",
                "data",
                "--out",
                out,
                "--recipe",
                "micro.yaml",
                "--encoder",
                "none",
            ],
            final,
        ),
        Job(
            "train dreambooth-lora",
            lambda out: [
                "train",
                "dreambooth-lora",
                "--data",
                "data",
                "--out",
                out,
                "--init",
                "micro",
                "--recipe",
                "lora.yaml",
                "--encoder",
                "none",
                "--store",
                out.with_name(f"{out.name}-store"),
            ],
            final,
        ),
        Job(
            "train clip",
            lambda out: ["train", "clip", "--data", "data", "--out", out, "--recipe", "clip.yaml"],
            ("*.safetensors", "open_clip_config.json"),
        ),
        Job(
            "synthesize",
            lambda out: [
                "synthesize",
                "--prompts",
                "prompts.txt",
                "--generator",
                "micro",
                "--out",
                out,
                "--steps",
                "2",
                "--per-prompt",
                "8",
                "--batch-size",
                "2",
            ],
            ("images/*", "manifest.csv"),
        ),
        Job(
            "augment",
            lambda out: [*augment, out.with_name(f"{out.name}-store"), "--out", out],
            ("**/*.png", "metadata.jsonl"),
        ),
        Job(
            "augment --format webdataset",
            lambda out: [
                *augment,
                out.with_name(f"{out.name}-store"),
                "--out",
                out,
                "--format",
                "webdataset",
                "--shard-size",
                "4",
            ],
            ("**/*.tar",),
        ),
        Job(
            "data prepare",
            lambda out: ["data", "prepare", "medvqa-gi-2024", "organizers", out],
            ("images/*", "metadata.jsonl"),
        ),
        Job(
            "export submission",
            lambda out: [
                "export",
                "submission",
                "runs/polyps",
                "--edition",
                "gi-2024",
                "--out",
                out,
                "--partial",
                "--weights",
                "copy",
                "--examples",
                "2",
                "--store",
                "store",
            ],
            ("**/*",),
        ),
    ]
