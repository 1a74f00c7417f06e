"""The challenge's folder as its organizers ship it, with the phantom's pictures."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from studies.medvqa_gi.attributes import CaptionError
from studies.medvqa_gi.captions import parse_caption
from studies.phantom import write_phantom


def write_challenge_files(folder: Path) -> None:
    """Writes `medvqa-gi-2024` below the folder: pictures and their captions."""
    data = write_phantom(folder / "phantom", images=240, seed=3, size=64)
    images = folder / "medvqa-gi-2024" / "images"
    images.mkdir(parents=True)
    lines = ["Prompt;Filename"]
    for number, record in enumerate(data):
        name = f"{number:04d}{Path(record.file_name).suffix}"
        shutil.copy(data.path(record), images / name)
        lines += [f"{text};{name}" for text in _organizers(record.text)]
    (images.parent / "prompt-gt.csv").write_text("\n".join(lines) + "\n")
    shutil.rmtree(folder / "phantom")


def _organizers(texts: Iterable[str]) -> Iterator[str]:
    """The sentences that are in the organizers' form, a caption each; the phantom has other wordings too."""
    sentences = (sentence for text in texts for sentence in text.split(". "))
    for sentence in dict.fromkeys(f"{one.rstrip('.')}." for one in sentences):
        try:
            parse_caption(sentence)
        except CaptionError:
            continue
        yield sentence
