"""Images while training, from fixed prompts and seeds; scored, shown, and the best weights kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DPMSolverMultistepScheduler
from PIL import Image

from generators.training.parts import Parts
from generators.training.spec import ValidationSpec
from promptopt.base.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, steps
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.progress import JsonLog
from promptopt.base.training.score import Score

_BATCH = 8
_COLUMNS = 8


Judge = Callable[[Sequence[Image.Image], Sequence[str]], Mapping[str, Score]]
"""Images and the prompts they were drawn from, to named scores. Must be a function of its arguments alone."""


@dataclass
class Validation:
    """Draws, scores and shows; ``folder`` gets a sheet a time and the best weights so far."""

    spec: ValidationSpec
    parts: Parts
    prompts: Sequence[str]
    size: int
    folder: Path
    log: JsonLog
    accelerator: Accelerator
    judge: Judge | None = None

    def due(self, step: int, *, last: int) -> bool:
        """Whether images are drawn after this step."""
        return bool(self.spec.every) and (step % self.spec.every == 0 or step == last)

    def run(self, step: int, weights: Mapping[str, torch.Tensor]) -> None:
        """Draw with the weights that the parts hold now, score, log; keep ``weights`` if the best so far."""
        if not self.accelerator.is_main_process:
            return
        count = self.spec.images
        prompts = [self.prompts[i % len(self.prompts)] for i in range(count)]
        images = self.draw(prompts)
        sheet = _sheet(images, self.size)
        path = self.folder / f"step-{step:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
        for tracker in self.accelerator.trackers:
            if not hasattr(tracker, "log_images"):  # accelerate's of MLflow
                continue
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"validation": np.asarray(sheet)[None]}, step=step, **layout)
        if self.judge is None:
            return
        scores = self.judge(images, prompts)
        values = {name: score.value for name, score in scores.items()}
        self.log.write("validation", step=step, **values)
        self.accelerator.log({f"validation/{name}": value for name, value in values.items()}, step=step)
        if self.spec.metric not in scores:
            raise TrainingError(
                f"validation.metric {self.spec.metric!r} is not among the scores; "
                f"use one of {', '.join(scores)}"
            )
        self._keep(step, scores[self.spec.metric], weights)

    @torch.no_grad()
    def draw(self, prompts: Sequence[str]) -> list[Image.Image]:
        """One image a prompt, the n-th from seed n."""
        pipe = self.parts.pipeline()
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(self.parts.scheduler.config)
        pipe.to(self.accelerator.device)
        pipe.set_progress_bar_config(disable=True)
        images: list[Image.Image] = []
        # at another batch size than training's, which is not worth compiling for
        with torch.compiler.set_stance("force_eager"):
            for start in range(0, len(prompts), _BATCH):
                part = list(prompts[start : start + _BATCH])
                images += pipe(
                    part,
                    height=self.size,
                    width=self.size,
                    num_inference_steps=self.spec.steps,
                    guidance_scale=self.spec.guidance,
                    generator=[torch.Generator().manual_seed(start + i) for i in range(len(part))],
                ).images
        return images

    def restore_best(self, weights: Mapping[str, torch.Tensor]) -> int | None:
        """Put the best weights into the trained parameters; the step they are of, None if there are none."""
        best = self._best() if self.spec.keep == "best" else None
        if best is None:
            return None
        for name, tensor in weights.items():
            tensor.data.copy_(best.tensors[name])
        self.log.write("best", step=best.step, **best.state)
        return best.step

    def _best(self) -> Checkpoint | None:
        folder = self.folder / "best"
        best = load_checkpoint(folder)
        if best is None and steps(folder):
            raise TrainingError(
                "the weights that validated best are damaged, and nothing but training can make them again",
                file=folder,
                remedy="Train in another output folder.",
            )
        return best

    def _keep(self, step: int, score: Score, weights: Mapping[str, torch.Tensor]) -> None:
        best = self._best()
        sign = 1 if score.lower_is_better else -1
        if best is None or sign * score.value < sign * best.state["value"]:
            state = {"metric": self.spec.metric, "value": score.value}
            save_checkpoint(self.folder / "best", step, tensors=weights, state=state, keep=1)


def _sheet(images: Sequence[Image.Image], size: int) -> Image.Image:
    columns = min(_COLUMNS, len(images))
    sheet = Image.new("RGB", (columns * size, -(-len(images) // columns) * size))
    for place, image in enumerate(images):
        sheet.paste(image, (place % columns * size, place // columns * size))
    return sheet
