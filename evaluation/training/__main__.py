"""``python -m evaluation.training {clip,judge} RECIPE --data FOLDER --out FOLDER``."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from evaluation.training.recipe import RecipeError, load_recipe
from studies.dataset import DatasetError, read_dataset


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a training from the command line; 0 on success, 2 for input that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.training", description="Train an encoder or a judge."
    )
    parser.add_argument("kind", choices=["clip", "judge"])
    parser.add_argument("recipe", help="a recipe that ships (tiny-clip, clip-finetune, judge) or a YAML file")
    parser.add_argument("--data", required=True, type=Path, help="a prepared data set")
    parser.add_argument("--out", required=True, type=Path, help="folder to write; run again to continue")
    parser.add_argument(
        "--init", help="clip: encoder to start from (folder, open_clip:MODEL/TAG, hf:owner/name)"
    )
    parser.add_argument("--tokenizer", type=Path, help="clip: folder with a Hugging Face tokenizer")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a recipe's key"
    )
    given = parser.parse_args(arguments)
    try:
        return _train(given)
    except (RecipeError, DatasetError) as error:
        return _refuse(error)


def _train(given: argparse.Namespace) -> int:
    spec = load_recipe(given.recipe, changes=given.set)
    if spec.kind != given.kind:
        raise RecipeError(f"recipe {given.recipe!r} is for {spec.kind!r}, not for {given.kind!r}")
    if spec.kind == "judge" and (given.init or given.tokenizer):
        raise RecipeError("--init and --tokenizer belong to clip; a judge starts from new weights")
    data = read_dataset(given.data)

    from evaluation.encoders import EncoderError
    from evaluation.judge import JudgeError
    from evaluation.training.loop import Progress, TrainingError

    last = 0.0

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < 5 and progress.step not in (1, progress.steps):
            return
        last = now
        sys.stdout.write(
            f"{progress.stage} {progress.step}/{progress.steps} loss {progress.loss:.4f} "
            f"{progress.images_per_second:.0f} images/s {progress.seconds_left:.0f} s left\n"
        )
        sys.stdout.flush()

    try:
        if spec.kind == "clip":
            from evaluation.training.clip import train_clip

            out = train_clip(
                spec,
                data=data,
                out=given.out,
                init=given.init,
                tokenizer=given.tokenizer,
                device=given.device,
                on_progress=show,
            )
        else:
            from evaluation.training.judge import train_judge

            out = train_judge(spec, data=data, out=given.out, device=given.device, on_progress=show)
    except (TrainingError, EncoderError, JudgeError) as error:
        return _refuse(error)
    sys.stdout.write(f"{out}\n")
    return 0


def _refuse(error: Exception) -> int:
    sys.stderr.write(f"error: {error}\n")
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
