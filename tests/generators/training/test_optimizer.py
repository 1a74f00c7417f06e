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


def _linear_loop(folder: Path, *, room: int, seen: list[int]) -> tuple[torch.nn.Module, Loop]:
    """Eight images a batch, of which `room` fit into memory at a time; how it says so changes."""
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 1)
    said = [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("could not create a primitive"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ]

    def loss(step: int, rows: slice) -> torch.Tensor:
        data = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))[rows]
        part = (module(data[:, :3]) - data[:, 3:]).square().sum() / 8
        if rows.stop - rows.start > room:
            if rows.start:  # one pass has left its gradients, and another one half of its own
                part.backward()
            raise said[len(seen) % len(said)]
        seen.append(rows.stop - rows.start)
        return part

    spec = LoopSpec(steps=5, batch_size=8, gradient_accumulation=1)
    own = method(spec, stage="t", rates={"m": 1e-2})
    return module, Loop(stage="t", modules={"m": module}, loss=loss, method=own, checkpoints=folder)


@pytest.mark.slow
def test_out_of_memory_halves_the_images_of_a_pass_with_the_same_result(tmp_path: Path) -> None:
    whole, loop = _linear_loop(tmp_path / "whole", room=8, seen=[])
    loop.run()
    for room in (4, 3, 1):
        seen: list[int] = []
        cut, loop = _linear_loop(tmp_path / str(room), room=room, seen=seen)
        loop.run()
        assert max(seen) <= room
        assert torch.allclose(cut.weight, whole.weight, atol=1e-6)
        assert torch.allclose(cut.bias, whole.bias, atol=1e-6)


@pytest.mark.slow
def test_one_image_that_does_not_fit_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    _, loop = _linear_loop(tmp_path, room=0, seen=[])
    with pytest.raises(TrainingError, match=r"1 images a pass.*gradient_checkpointing"):
        loop.run()


def test_batch_normalization_wants_the_whole_batch(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))

    def loss(step: int, rows: slice) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    own = method(LoopSpec(steps=1, batch_size=4), stage="t", rates={"m": 1e-2})
    with pytest.raises(TrainingError, match="gradient_accumulation to 2"):
        Loop(stage="t", modules={"m": module}, loss=loss, method=own, checkpoints=tmp_path).run()
