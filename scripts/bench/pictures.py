"""Draw the README's pictures: what the phantom renders, and what the embedded generator makes of prompts.

    python scripts/bench/pictures.py [--out docs]

Both are synthetic; seeds are 0 to 7, not chosen.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import generators
from studies.phantom import render, sample_scene
from studies.phantom.scene import INSTRUMENTS, LANDMARKS

COLUMNS, TILE, LABEL = 8, 96, 250
PROMPTS = (
    "a colonoscopy image of a polyp",
    "a colonoscopy image of a large red sessile polyp",
    "a colonoscopy image of a yellow pedunculated polyp",
    "a colonoscopy image of a small white polyp, 3 polyps",
    "a colonoscopy image of a polyp, located in the upper-left, 1 polyp",
    "a colonoscopy image of a polyp, located in the lower-right, 1 polyp",
    "an endoscopy photo of the z-line",
    "an endoscopy photo of the pylorus",
    "a colonoscopy image of the cecum",
    "a colonoscopy image of biopsy forceps",
    "a colonoscopy image of a polyp snare",
    "a colonoscopy image of a tube",
    "a colonoscopy image of an injection needle",
    "a colonoscopy image of normal mucosa",
)


def sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """One row a label; images are enlarged, not retouched."""
    picture = Image.new("RGB", (LABEL + COLUMNS * TILE, len(rows) * TILE), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=14)
    for row, (label, images) in enumerate(rows):
        lines, line = [], ""
        for word in label.split():
            if draw.textlength(f"{line} {word}", font=font) > LABEL - 16:
                lines, line = [*lines, line], word
            else:
                line = f"{line} {word}".strip()
        text = "\n".join([*lines, line])
        draw.text((8, row * TILE + TILE // 2), text, fill="black", font=font, anchor="lm")
        for column, image in enumerate(images):
            tile = image.resize((TILE, TILE), Image.Resampling.BICUBIC)
            picture.paste(tile, (LABEL + column * TILE, row * TILE))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--generator", default="embedded")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kinds = ("polyp", *LANDMARKS, *INSTRUMENTS, "normal")
    seeds = range(COLUMNS)
    rendered = [
        (kind, [render(sample_scene(np.random.default_rng(seed), kind=kind)) for seed in seeds])
        for kind in kinds
    ]
    sheet(rendered).save(options.out / "phantom.jpg", quality=88)
    generator = generators.load(options.generator)
    drawn = [
        (prompt, list(generator.generate([generator.request(prompt, seed) for seed in seeds])))
        for prompt in PROMPTS
    ]
    sheet(drawn).save(options.out / "generated.jpg", quality=88)
    print(options.out / "phantom.jpg", options.out / "generated.jpg")


if __name__ == "__main__":
    main()
