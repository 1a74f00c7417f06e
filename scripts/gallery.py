"""Takes the pictures of docs/gallery.md and the README's from a finished run of the quickstart, by Chromium.

    promptopt study run studies/files/quickstart-coast.yaml
    python scripts/gallery.py runs/quickstart-coast

The pictures are those of the report, at fixed places of it: none is chosen by hand. All are synthetic.
"""

import argparse
import base64
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.browser import Browser, browser  # noqa: E402

WIDTH, QUALITY, MARGIN = 1000, 72, 12


def picture(tab: Browser, *, clip: dict[str, float] | None = None) -> Image.Image:
    place = {} if clip is None else {"clip": {**clip, "scale": 1}, "captureBeyondViewport": True}
    png = tab.call("Page.captureScreenshot", format="png", **place)["data"]
    return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")


def element(tab: Browser, selector: str, *, most: float) -> Image.Image:
    """The element, opened if it is folded, down to `most` pixels of it."""
    tab.run(f"document.querySelector({json.dumps(selector)}).closest('details')?.setAttribute('open', '')")
    tab.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView()")
    time.sleep(2)  # pictures that are loaded when they come into view, and the map's drawing
    box = tab.run(
        f"(r => [r.left + scrollX, r.top + scrollY, r.width, r.height])"
        f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
    )
    x, y, width, height = box
    clip = {"x": x - MARGIN, "y": y - MARGIN, "width": width + 2 * MARGIN}
    return picture(tab, clip={**clip, "height": min(height, most) + 2 * MARGIN})


def words(tab: Browser) -> Image.Image:
    tab.run(
        "(s => { s.value = 'words'; s.dispatchEvent(new Event('change')) })(document.querySelector('#view'))"
    )
    return element(tab, "#gallery", most=545)


def first_screen(tab: Browser) -> Image.Image:
    tab.run("scrollTo(0, 0)")
    return picture(tab)


def methods(tab: Browser) -> Image.Image:
    summary = (
        "[...document.querySelectorAll('summary')].find(s => s.textContent.startsWith('Images of every'))"
    )
    tab.run(f"{summary}.parentElement.id = 'methods'")
    return element(tab, "#methods", most=650)


TAKEN: dict[str, Callable[[Browser], Image.Image]] = {
    "report": first_screen,
    "methods": methods,
    "grid": lambda tab: element(tab, "#gallery", most=585),
    "words": words,
    "map": lambda tab: element(tab, "#atlas", most=760),
}


def sheet(run: Path) -> Image.Image:
    """A contact sheet of 24 polyps of the learned template, as `promptopt synthesize` draws it."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *(sys.executable, "-m", "promptopt", "synthesize", "--prompts", str(run)),
                *("--class", "polyp", "--method", "learned", "--generator", "embedded"),
                *("--total", "24", "--out", f"{folder}/polyps"),
            ],
            check=True,
            cwd=REPOSITORY,
        )
        whole = Image.open(f"{folder}/polyps/sheet.png").convert("RGB")
        return whole.resize((WIDTH, round(whole.height * WIDTH / whole.width)), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a finished run of sets")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs")
    options = parser.parse_args()
    (options.out / "gallery").mkdir(parents=True, exist_ok=True)
    with browser() as tab:
        tab.open(options.run / "report.html", width=WIDTH, height=692)
        taken = {name: take(tab) for name, take in TAKEN.items()}
    taken["sheet"] = sheet(options.run.resolve())
    for name, one in taken.items():
        file = options.out / ("" if name == "report" else "gallery") / f"{name}.jpg"
        one.save(file, quality=QUALITY, optimize=True)
        print(f"{file}: {one.width}x{one.height}, {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
