"""How long from a checkpoint in one .safetensors file to images, and to a study without real images?

    python scripts/bench/newcomers/engineer.py [--small] [--work DIR]

The commands are those of docs/checkpoints.md, with a tiny model: the embedded one in Stability's naming. As
its shape is not Stable Diffusion's, `?config=` names a folder that has it.
"""

import shlex
import shutil
from pathlib import Path

from newcomer import REPOSITORY, walk

from tests.docs.pages import Block
from tests.generators.single_file.original import write_single_file

PAGE = "docs/checkpoints.md"
MODEL = "models/tiny.safetensors?config=models/tiny"
STUDY = f"""\
name: posters
aim: single
category: posters.yaml
generator: {{uri: "{MODEL}"}}
encoder: embedded
score: {{alignment: 1.0}}
"""
CATEGORY = """\
name: posters
title: Posters
baseline: a polyp
template: "a __color__ polyp{, sharp|}"
wildcards: wildcards
texts: [a polyp]
distractors:
  normal: [normal mucosa]
"""
COLORS = "red\npink\npale\n"
SMALL = (
    "--set generator.steps=2 --set search.trials=2 --set search.images=4 --set search.racing=false "
    "--set confirm.top=1 --set confirm.images=4"
)
COMMANDS = f"""\
promptopt generate "{MODEL}" "a polyp" --output-dir work/try
promptopt template check posters.yaml
promptopt study run study.yaml
promptopt study show runs/posters
"""


def prepare(work: Path) -> None:
    embedded = REPOSITORY / "generators" / "embedded" / "sd"
    (work / "models").mkdir()
    write_single_file(embedded, work / "models" / "tiny.safetensors")
    shutil.copytree(embedded, work / "models" / "tiny")
    for weights in (work / "models" / "tiny").rglob("*.safetensors"):
        weights.unlink()  # the shape alone


def blocks() -> list[Block]:
    files = {"study.yaml": STUDY, "posters.yaml": CATEGORY, "wildcards/color.txt": COLORS}
    written = [Block(PAGE, 0, "", text, title=title) for title, text in files.items()]
    options = {"generate": shlex.split("--num-inference-steps 2"), "study run": shlex.split(SMALL)}
    return [*written, Block(PAGE, 0, "bash", COMMANDS, options=options)]


if __name__ == "__main__":
    walk(__doc__, blocks(), pictures=["work/try/sheet.png"], prepare=prepare)
