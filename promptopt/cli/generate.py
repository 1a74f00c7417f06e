"""`promptopt generate`: a few images of one prompt."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.cli._options import Device, Guidance, On, Steps
from promptopt.cli._text import say, warn

if TYPE_CHECKING:
    from generators.store import StoredImage

_URI_HELP = (
    "embedded, a diffusers folder, owner/name[@revision] on the hub, or FILE.safetensors (SD 1.x, 2.x, XL); "
    "LoRA adapters behind it: +lora:PATH@SCALE."
)


def generate(
    uri: Annotated[str, typer.Argument(metavar="URI", help=_URI_HELP)],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The prompt.")],
    out: Annotated[
        Path, typer.Option("--out", "--output-dir", help="Folder for the images, the sheet and the store.")
    ],
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first image; the next have the next seeds.")
    ] = 0,
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 8,
    negative_prompt: Annotated[str, typer.Option(help="What the images should not show.")] = "",
    steps: Steps = None,
    guidance: Guidance = None,
    on: On = "here",
    device: Device = "auto",
) -> None:
    """Generate images of one prompt with consecutive seeds, and a contact sheet of them.

    Images lie in OUT/store, one for each request; asking again generates only what is missing.
    """
    from generators.fetching import fetch
    from generators.making.makers import Makers
    from generators.store import ImageStore
    from promptopt.cli._progress import Bars
    from promptopt.formatting.pictures import Tile, contact_sheet
    from promptopt.space.emphasis import emphasis_warning

    if warning := emphasis_warning([prompt]):
        warn(warning)
    made = done = 0
    with Makers(on, device=device) as makers, Bars() as bar:
        generator = makers.load(uri)
        requests = [
            generator.request(prompt, s, negative_prompt=negative_prompt, steps=steps, guidance=guidance)
            for s in range(seed, seed + count)
        ]

        def on_image(image: "StoredImage", generated: bool) -> None:
            nonlocal made, done
            made, done = made + generated, done + 1
            bar.image(done, count, generated)

        stored = fetch(ImageStore(out / "store"), generator, requests, on_image=on_image)
    tiles = [Tile(image.load(), f"seed {image.request.seed}") for image in stored]
    path = contact_sheet([(prompt, tiles)], out / "sheet.png", tile=max(128, max(tiles[0].image.size)))
    for image in stored:
        say(f"seed {image.request.seed}: {image.path}")
    say(f"{made} generated, {count - made} from the store; sheet: {path}")
