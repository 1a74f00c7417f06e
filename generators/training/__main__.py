"""``python -m generators.training RECIPE --data FOLDER --out FOLDER``: train, and print lines."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a recipe; 0 when it is done, 2 when the recipe, the data or the folder cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m generators.training", description=__doc__)
    parser.add_argument("recipe", help="'tiny', 'tiny-finetune', or a YAML file")
    parser.add_argument(
        "--data", type=Path, required=True, help="prepared data set (any folder of pictures for --only vae)"
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder; the same command resumes")
    parser.add_argument("--init", type=Path, help="pipeline folder to start from")
    parser.add_argument("--vae", type=Path, help="folder of a trained VAE, to skip that stage")
    parser.add_argument("--clip", type=Path, help="CLIP folder whose text tower to start from")
    parser.add_argument("--only", choices=["vae"], help="stop after this stage")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two progress lines")
    options = parser.parse_args(arguments)

    import torch

    from generators.training.finetune import train_sd, train_vae_stage
    from generators.training.images import find_pictures
    from generators.training.loop import TrainingError
    from generators.training.parts import load_parts
    from generators.training.spec import load_recipe
    from studies.dataset import METADATA, read_dataset

    # denormal numbers in Adam's moments cost a CPU up to a third of its speed
    torch.set_flush_denormal(True)
    tell = _teller(options.every)
    try:
        spec = load_recipe(options.recipe, overrides=tuple(options.overrides))
        if options.only == "vae":
            if (options.data / METADATA).is_file():
                paths = read_dataset(options.data).where(pool="reference").paths()
            else:
                paths = find_pictures(options.data)
            held = min(spec.vae_training.held_out, len(paths) // 10)
            train_vae_stage(
                spec,
                pictures=paths[held:],
                held_out=paths[:held],
                out=options.out,
                start=load_parts(options.init).vae if options.init else None,
                device=None if options.device == "auto" else torch.device(options.device),
                on_progress=tell,
            )
            result = options.out / "stages" / "vae" / "model"
        else:
            data = read_dataset(options.data)
            result = train_sd(
                spec,
                data=data,
                out=options.out,
                init=options.init,
                vae=options.vae,
                clip=options.clip,
                device=options.device,
                on_progress=tell,
            )
    except (ValueError, TrainingError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"done: {result}\n")
    return 0


def _teller(every: float) -> Callable[..., None]:
    from generators.training.loop import Progress

    last = {"at": -every}

    def tell(progress: Progress) -> None:
        now = time.monotonic()
        if now - last["at"] < every and progress.step < progress.steps:
            return
        last["at"] = now
        loss = "" if progress.loss is None else f" loss {progress.loss:.5f}"
        sys.stdout.write(
            f"{progress.stage} {progress.step}/{progress.steps}{loss} "
            f"{progress.images_per_second:.1f} images/s, {progress.seconds_left / 60:.1f} minutes left\n"
        )
        sys.stdout.flush()

    return tell


if __name__ == "__main__":
    sys.exit(main())
