"""How the loop trains a section of a recipe."""

from pathlib import Path

import pytest
import torch

from generators.training.device import accelerator
from generators.training.optimizer import build_optimizer, method
from generators.training.spec import LoopSpec
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.loop import Loop


@pytest.mark.parametrize("name", ["adamw", "adafactor", "sgd"])
def test_every_optimizer_resumes_where_it_was(name: str, tmp_path: Path) -> None:
    def run(folder: Path, *, stop: int | None = None) -> torch.Tensor:
        torch.manual_seed(0)
        module = torch.nn.Linear(5, 3)

        def loss(step: int, rows: slice) -> torch.Tensor:
            if step == stop:
                raise KeyboardInterrupt
            generator = torch.Generator().manual_seed(step)
            return (module(torch.randn(4, 5, generator=generator)) - 1).square().mean()

        Loop(
            stage="t",
            modules={"m": module},
            loss=loss,
            method=method(
                LoopSpec(steps=9, batch_size=4, optimizer=name, checkpoint_every=2, warmup=2, lr=1e-2),
                stage="t",
                rates={"m": 1e-2},
            ),
            checkpoints=folder,
            place=accelerator(device="cpu", precision="float32"),
        ).run()
        return module.weight.detach().clone()

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=5)
    assert torch.equal(run(tmp_path / "cut"), whole)


def test_an_optimizer_that_is_not_installed_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="pip install bitsandbytes"):
        build_optimizer(
            [{"params": [torch.nn.Parameter(torch.zeros(1))]}], LoopSpec(steps=1, optimizer="adamw8bit")
        )


@pytest.mark.parametrize(
    ("batch", "remedy"), [(4, "gradient_accumulation to 2"), (1, "gradient_checkpointing")]
)
def test_out_of_memory_is_an_error_with_a_remedy(batch: int, remedy: str, tmp_path: Path) -> None:
    module = torch.nn.Linear(1, 1)

    def loss(step: int, rows: slice) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    loop = Loop(
        stage="t",
        modules={"m": module},
        loss=loss,
        method=method(LoopSpec(steps=1, batch_size=batch), stage="t", rates={"m": 1e-2}),
        checkpoints=tmp_path,
    )
    with pytest.raises(TrainingError, match=remedy):
        loop.run()
