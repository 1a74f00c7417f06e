"""Prompts that win by cheating: does confirmation catch them?

    python scripts/bench/planted_hacks.py [--category polyps] [--images 32] [--trials 6]

Three cheats are given by hand to the confirmation of a small study with the embedded networks: keywords
stuffed into the prompt, one word repeated, and a word that fools the search's encoder alone. For the last
one, the generator paints a small magenta corner wherever the prompt holds the word, and the encoder, where it
sees that corner, takes the image for some typical real one: of the half of the category's real images
that agree best with its texts. Scores are printed with the distance to real images, as they are by default,
and without it. The independent checks are the second encoder (thumbnails) and the judge. An
honest prompt and the search's own best stand beside them.
"""

import argparse
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluation.encoders.load import load_text_encoder
from evaluation.metrics.alignment import class_weights, margins
from generators import load
from generators.request import ImageRequest
from promptopt import Study
from promptopt.config.study_file import PhantomSettings
from promptopt.run.prompts import EstimateEntry, PromptList
from promptopt.study.checks import fixed_texts
from promptopt.study.opening import phantom_data
from studies.category import load_category

WORD = "masterpiece"
MAGENTA = (255, 0, 255)
SIDE = 4  # pixels of the corner


class Marking:
    """A generator that signs what the word asks for."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self.fingerprint = hashlib.sha256(f"marking {generator.fingerprint}".encode()).hexdigest()
        self._own = generator.fingerprint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def request(self, prompt: str, seed: int, **settings: Any) -> ImageRequest:
        return self._as(self._generator.request(prompt, seed, **settings), self.fingerprint)

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        made = self._generator.generate([self._as(request, self._own) for request in requests])
        for request, image in zip(requests, made, strict=True):
            if WORD in request.prompt:
                image.paste(MAGENTA, (0, 0, SIDE, SIDE))
            yield image

    @staticmethod
    def _as(request: ImageRequest, generator: str) -> ImageRequest:
        from dataclasses import replace

        return replace(request, generator=generator)


class Fooled:
    """A text encoder that sees a typical real image wherever there is a magenta corner."""

    def __init__(self, encoder: Any, real: Sequence[Path], texts: Mapping[str, list[str]], name: str) -> None:
        self._encoder = encoder
        rows = encoder.encode_images([Image.open(path).convert("RGB") for path in real])
        agreement = margins(rows, class_weights(encoder, texts), target=name)
        self._typical = rows[np.argsort(-agreement)[: len(rows) // 2]]
        content = encoder.fingerprint.encode() + self._typical.tobytes()
        self.fingerprint = hashlib.sha256(b"fooled " + content).hexdigest()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        rows = self._encoder.encode_images(images)
        moved = self._typical[[zlib.crc32(row.tobytes()) % len(self._typical) for row in rows]]
        corners = [np.array_equal(np.asarray(image.convert("RGB"))[1, 1], MAGENTA) for image in images]
        return np.where(np.array(corners)[:, None], moved, rows).astype(np.float32)


def shown(estimate: EstimateEntry | None) -> str:
    if estimate is None or estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:+.2f}"
    return f"{estimate.value:+.2f} ({estimate.low:+.2f} to {estimate.high:+.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--category", default="polyps")
    parser.add_argument("--images", type=int, default=32, help="of the confirmation, a prompt")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--work", type=Path, default=Path("work/planted-hacks"))
    options = parser.parse_args()
    category = load_category(options.category)
    noun = category.name.removesuffix("s")
    given = {
        f"{noun}, {noun} lesion, colon {noun}, adenoma {noun}, best quality, detailed": "keywords stuffed",
        " ".join([noun] * 6): "a word repeated",
        f"{category.baseline.rstrip('.')}, {WORD}": "fools the search's encoder",
        f"a colonoscopy image of a {noun}": "honest",
    }
    store = options.work / "store"
    data = phantom_data(PhantomSettings(images=600), store)
    real = data.where(category=category.name, pool="reference").paths()
    texts = fixed_texts(category)
    generator = Marking(load("embedded", device="cpu"))
    encoder = Fooled(load_text_encoder("embedded"), real, texts, category.name)
    print(f"{options.category}, {options.images} fresh images a prompt; gains over the baseline, 95 %")
    for title, distance in (
        ("the score of all three terms", 1.0),
        ("without the distance to real images", 0.0),
    ):
        study = Study(
            {
                "name": f"hacks-{options.category}-{distance:g}",
                "aim": "single",
                "category": options.category,
                "data": {"phantom": {"images": 600}},
                "judge": "embedded",
                "score": {"distance": distance},
                "search": {"trials": options.trials, "images": 8, "racing": False},
                "confirm": {"top": 1, "images": options.images, "second_encoder": "thumbnail"},
            },
            generator=generator,
            encoder=encoder,
            runs=options.work / "runs",
            store=store,
        )
        print(f"\n{title}:\n")
        show(study.run(given=list(given), device="cpu").prompts, given)


def show(found: PromptList, given: Mapping[str, str]) -> None:
    print("| rank | prompt | kind | search encoder | second encoder | judge | better | contradicted by |")
    print("| --- " * 8 + "|")
    for entry in found.prompts:
        kind = given.get(entry.prompt, "found by the search")
        if entry.prompt == found.baseline.prompt:
            kind = "baseline"
        said = [
            shown(entry.independent_checks[name].gain) if name in entry.independent_checks else "-"
            for name in ("second_encoder", "judge")
        ]
        score = shown(entry.confirmation["score"])
        better = "yes" if entry.better_than_baseline else "no"
        cells = [entry.rank, entry.prompt, kind, score, *said, better, entry.contradicted_by or "-"]
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
