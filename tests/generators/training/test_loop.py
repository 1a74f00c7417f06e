"""The loop: the same training however a batch is shared out, by any optimizer, safe against a bad end."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from generators.training import checkpoint
from generators.training.device import accelerator
from generators.training.finetune import train_sd
from generators.training.loop import JsonLog, Loop
from generators.training.parts import load_parts
from generators.training.spec import LoopSpec, SdTrainingSpec
from generators.training.validation import Score
from promptopt.base.training.errors import TrainingError
from studies.dataset import Dataset
from tests.generators.training.test_finetune import assert_same_bits, changed, weights


def far_apart(one: Path, other: Path) -> float:
    first, second = weights(one), weights(other)
    return max(float((first[name].float() - second[name].float()).abs().max()) for name in first)


def test_a_batch_in_several_passes_trains_as_one(spec: SdTrainingSpec, data: Dataset, tmp_path: Path) -> None:
    # plain descent: Adam would turn rounding into whole steps where a gradient is nearly 0
    quiet = {"optimizer": "sgd", "min_snr_gamma": 5.0, "noise_offset": 0.1}
    spec = changed(spec, training=quiet, vae_training={"optimizer": "sgd"})
    split = changed(
        spec,
        training={"gradient_accumulation": 4, "gradient_checkpointing": True},
        vae_training={"gradient_accumulation": 2},
    )
    one = train_sd(spec, data=data, out=tmp_path / "one")
    four = train_sd(split, data=data, out=tmp_path / "four")
    assert far_apart(one, four) < 1e-5
    with pytest.raises(TrainingError, match="multiple of 3"):
        train_sd(
            changed(spec, training={"gradient_accumulation": 3}),
            data=data,
            out=tmp_path / "three",
        )


_WORKER = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from generators.training import SdTrainingSpec, train_sd
from studies.dataset import read_dataset
spec = SdTrainingSpec.model_validate_json(Path(sys.argv[1]).read_text())
train_sd(spec, data=read_dataset(sys.argv[2]), out=Path(sys.argv[3]), device="cpu")
"""


def test_two_processes_train_as_one(spec: SdTrainingSpec, data: Dataset, tmp_path: Path) -> None:
    spec = changed(spec, training={"optimizer": "sgd"}, vae_training={"optimizer": "sgd"})
    one = train_sd(spec, data=data, out=tmp_path / "one", device="cpu")
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    (tmp_path / "worker.py").write_text(_WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(tmp_path / name) for name in ("worker.py", "spec.json")]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*command, str(data.root), str(tmp_path / "two")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert far_apart(one, tmp_path / "two" / "pipeline") < 1e-5


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
            spec=LoopSpec(steps=9, batch_size=4, optimizer=name, checkpoint_every=2, warmup=2, lr=1e-2),
            rates={"m": 1e-2},
            checkpoints=folder,
            log=JsonLog(folder / "log.jsonl"),
            accelerator=accelerator(device="cpu", precision="float32"),
        ).run()
        return module.weight.detach().clone()

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=5)
    assert torch.equal(run(tmp_path / "cut"), whole)


def test_an_optimizer_that_is_not_installed_is_said(tmp_path: Path) -> None:
    from generators.training.optimizer import build_optimizer

    with pytest.raises(TrainingError, match="pip install bitsandbytes"):
        build_optimizer(
            [{"params": [torch.nn.Parameter(torch.zeros(1))]}], LoopSpec(steps=1, optimizer="adamw8bit")
        )


def test_a_full_disk_ends_training_with_the_last_checkpoint_intact(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_sd(spec, data=data, out=tmp_path / "whole")
    write, calls = checkpoint.save_file, []

    def full(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
        calls.append(path)
        if len(calls) == 4:  # the VAE has two checkpoints, this is the UNet's second
            Path(path).write_bytes(b"half of")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(TrainingError, match=r"step 4 cannot be written.*disk is full"):
        train_sd(spec, data=data, out=tmp_path / "out")
    folder = tmp_path / "out" / "stages" / "unet" / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["step-00000002"]
    monkeypatch.setattr(checkpoint, "save_file", write)
    assert_same_bits(whole, train_sd(spec, data=data, out=tmp_path / "out"))


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
        spec=LoopSpec(steps=1, batch_size=batch),
        rates={"m": 1e-2},
        checkpoints=tmp_path,
        log=JsonLog(tmp_path / "log.jsonl"),
        accelerator=accelerator(device="cpu", precision="float32"),
    )
    with pytest.raises(TrainingError, match=remedy):
        loop.run()


def test_the_precision_and_device_that_cannot_be_had_are_said() -> None:
    with pytest.raises(TrainingError, match="fp16"):
        accelerator(device="cpu", precision="fp16")
    with pytest.raises(TrainingError, match="auto, cpu, cuda"):
        accelerator(device="gpu", precision="float32")
    with pytest.raises(TrainingError, match=r"tracker wandb.*none"):
        accelerator(device="cpu", precision="float32", tracker="wandb")


# --- validation --------------------------------------------------------------------------------------------


class Planted:
    """Judges the second look best; the same images, the same scores."""

    def __init__(self) -> None:
        self.looks: list[list[bytes]] = []

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Mapping[str, Score]:
        self.looks.append([image.tobytes() for image in images])
        return {"mmd": Score(abs(len(self.looks) - 2), lower_is_better=True)}


def test_the_weights_that_validated_best_are_exported(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    spec = changed(spec, training={"lr": 1e-2}, validation={"every": 2, "images": 3})
    judge = Planted()
    best = train_sd(spec, data=data, out=tmp_path / "best", judge=judge)
    assert len(judge.looks) == 3
    assert judge.looks[0] != judge.looks[1]
    assert "mmd 0 at step 4" in (best / "README.md").read_text()
    last = train_sd(
        changed(spec, validation={"keep": "last"}), data=data, out=tmp_path / "last", judge=Planted()
    )
    assert far_apart(best, last) > 0
    events = [json.loads(line) for line in (tmp_path / "best" / "log.jsonl").read_text().splitlines()]
    assert [event["mmd"] for event in events if event["event"] == "validation"] == [1, 0, 1]
    # validation looks, it does not touch: the same training without it ends in the same weights
    none = train_sd(changed(spec, validation={"every": 0}), data=data, out=tmp_path / "none")
    assert_same_bits(last, none)


def test_a_metric_that_is_not_measured_is_named(spec: SdTrainingSpec, data: Dataset, tmp_path: Path) -> None:
    spec = changed(spec, validation={"every": 2, "metric": "beauty"})
    with pytest.raises(TrainingError, match=r"'beauty' is not among the scores; use one of mmd"):
        train_sd(spec, data=data, out=tmp_path / "out", judge=Planted())


# --- checkpoints to start from -----------------------------------------------------------------------------


def test_a_pickled_checkpoint_is_refused(spec: SdTrainingSpec, data: Dataset, tmp_path: Path) -> None:
    base = train_sd(spec, data=data, out=tmp_path / "base")
    file = base / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model\.bin is a pickle"):
        load_parts(base)


def test_a_damaged_checkpoint_is_named(spec: SdTrainingSpec, data: Dataset, tmp_path: Path) -> None:
    base = train_sd(spec, data=data, out=tmp_path / "base")
    file = base / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"base.*cannot be read as a StableDiffusionPipeline"):
        load_parts(base)
    (base / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ValueError, match="FluxPipeline; give one of"):
        load_parts(base)
