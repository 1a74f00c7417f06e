"""Make the embedded default: render the phantom, train judge, CLIP and Stable Diffusion, install.

    python scripts/build_embedded.py [--work work/embedded] [--stage data|judge|clip|sd|install|all]

Every stage goes on where it was killed, and a GPU is used where there is one. The CLIP comes before the
generator, whose text encoder starts from its text tower, as in Stable Diffusion itself. The generator learns
in legs, some of them lessons in place and number (studies/phantom/lessons.py).
The networks see phantom renderings alone, no patient data.
"""

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from generators.folder import ModelDefaults
from studies.dataset import read_dataset
from studies.phantom.lessons import Lesson, write_lesson

ROOT = Path(__file__).resolve().parent.parent
IMAGES, SEED = 30_000, 7
# What the tiny model looks best with; see scripts/bench/embedded_quality.py.
DEFAULTS = ModelDefaults(steps=12, guidance=3.0, scheduler="dpmpp_2m")
TARGETS = {
    "sd": ROOT / "generators" / "embedded" / "sd",
    "clip": ROOT / "evaluation" / "embedded" / "clip",
    "judge": ROOT / "evaluation" / "embedded" / "judge",
}
LIMIT_MB = 25


@dataclass(frozen=True)
class Leg:
    """Some steps of the generator's training; ``bias`` of 1000 leaves the noisiest ``portion`` alone."""

    name: str
    steps: int
    lesson: Lesson | None = None
    bias: float = 2
    portion: float = 0.4
    lr: float = 8e-4


LEGS = (
    Leg("first", 3600, bias=1),
    Leg("place", 400, "place", bias=1000),
    Leg("all", 3800),
    Leg("number", 400, "number", bias=1000, portion=0.5),
    Leg("review", 1400, "review"),
    Leg("drill", 1000, "drill", bias=4, portion=0.6),
    Leg("polish", 400, "polish", lr=5e-4),
)
# Left out of the package: not read when the weights are loaded.
JUNK = ("checkpoints", "stages", "previews", "log.jsonl", "*.partial", ".*")


def promptopt(*arguments: object) -> None:
    """Run the command line as a user would; its progress bars go to the terminal."""
    command = [sys.executable, "-m", "promptopt", *map(str, arguments)]
    print("$ promptopt", *arguments, flush=True)
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "embedded")
    parser.add_argument("--stage", default="all", choices=["data", "judge", "clip", "sd", "install", "all"])
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    chosen = parser.parse_args()
    work: Path = chosen.work
    data = work / "phantom"

    def wanted(stage: str) -> bool:
        return chosen.stage in (stage, "all")

    if wanted("data"):
        promptopt(
            *("data", "prepare", "phantom", data, "--images", IMAGES),
            *("--seed", SEED, "--workers", chosen.workers),
        )
    if wanted("judge"):
        promptopt("train", "judge", "--data", data, "--out", work / "judge")
    if wanted("clip"):
        tokenizer = learn_words(data, work / "tokenizer")
        promptopt("train", "clip", "--data", data, "--out", work / "clip", "--tokenizer", tokenizer)
    if wanted("sd"):
        train_generator(work, data)
    if wanted("install"):
        install(work)


def train_generator(work: Path, data: Path) -> None:
    """Leg after leg, each from the one before; a leg that is done is not done again."""
    before: Path | None = None
    for leg in LEGS:
        out, lesson = work / "sd" / leg.name, data
        if leg.lesson is not None:
            lesson = work / "lessons" / leg.lesson
            write_lesson(read_dataset(data), lesson, lesson=leg.lesson)
        if before is None:
            start: tuple[object, ...] = ("--clip", work / "clip")
        else:
            start = ("--init", before / "pipeline", "--set", "vae_training.steps=0")
            start += ("--set", "training.warmup=50")
        settings = {
            "steps": leg.steps,
            "timestep_bias_multiplier": leg.bias,
            "timestep_bias_portion": leg.portion,
            "lr": leg.lr,
            "text_encoder_lr": leg.lr / 2,
        }
        changes = [word for key, value in settings.items() for word in ("--set", f"training.{key}={value}")]
        options = (
            "--recipe",
            "tiny",
            "--data",
            lesson,
            "--out",
            out,
            "--allow-embedded",
        )  # a lesson has no stamp
        promptopt("train", "sd", *options, *start, *changes)
        before = out


def learn_words(data: Path, folder: Path) -> Path:
    """The vocabulary that CLIP and generator share, from the phantom's captions."""
    from generators.training.tokenizer import save_tokenizer, train_tokenizer

    records = read_dataset(data).where(pool="reference").records
    save_tokenizer(train_tokenizer(text for record in records for text in record.text), folder)
    return folder


def install(work: Path) -> None:
    """Copy the three results into the packages and check their size."""
    for name, source in (
        ("sd", work / "sd" / LEGS[-1].name / "pipeline"),
        ("clip", work / "clip"),
        ("judge", work / "judge"),
    ):
        target = TARGETS[name]
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*JUNK))
    defaults = DEFAULTS.model_dump(exclude_none=True)
    (TARGETS["sd"] / "promptopt.json").write_text(json.dumps(defaults, indent=2) + "\n", "utf-8")
    files = [path for target in TARGETS.values() for path in target.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"embedded weights: {size:.1f} MB in {len(files)} files")
    if size > LIMIT_MB:
        raise SystemExit(f"the embedded weights may take {LIMIT_MB} MB at most")


if __name__ == "__main__":
    main()
