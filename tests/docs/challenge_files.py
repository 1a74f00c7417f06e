"""The challenge's folder as its organizers ship it, with the phantom's pictures."""

import shutil
from pathlib import Path

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
        lines += [f"{text};{name}" for text in record.text]
    (images.parent / "prompt-gt.csv").write_text("\n".join(lines) + "\n")
    shutil.rmtree(folder / "phantom")
