"""A training in stages: the same however a batch is shared out, safe against damage and a bad end."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from generators.training.device import accelerator
from generators.training.finetune import train_sd
from generators.training.parts import load_parts
from generators.training.spec import SdTrainingSpec
from promptopt.base.training import checkpoint
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.folder import held
from promptopt.base.training.progress import Progress
from studies.dataset import Dataset
from tests.generators.training.test_finetune import KilledError, assert_same_bits, changed, weights


def kill_at(stage: str, step: int) -> Callable[[Progress], None]:
    def kill(progress: Progress) -> None:
        if (progress.stage, progress.step) == (stage, step):
            raise KilledError

    return kill


def far_apart(one: Path, other: Path) -> float:
    first, second = weights(one), weights(other)
    return max(float((first[name].float() - second[name].float()).abs().max()) for name in first)


@pytest.mark.slow
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
    with pytest.raises(ValueError, match="multiple of 3"):
        changed(spec, training={"gradient_accumulation": 3})


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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_the_precision_and_device_that_cannot_be_had_are_said() -> None:
    with pytest.raises(TrainingError, match="fp16"):
        accelerator(device="cpu", precision="fp16")
    with pytest.raises(TrainingError, match="auto, cpu, cuda"):
        accelerator(device="gpu", precision="float32")
    with pytest.raises(TrainingError, match=r"tracker wandb.*none"):
        accelerator(device="cpu", precision="float32", tracker="wandb")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["vae_training", "training"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_training_that_diverges_exports_nothing_and_its_advice_can_be_followed(
    stage: str, steps: int, spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    # of three steps, the first bad one is not the last; of one step, it is
    wild = changed(spec, **{stage: {"lr": 1e30, "steps": steps, "warmup": 0}})
    for _ in range(2):  # nothing poisoned is gone on from
        with pytest.raises(TrainingError, match=r"diverged.*lower lr \(1e\+30\).*another output folder"):
            train_sd(wild, data=data, out=tmp_path / "out")
    assert not (tmp_path / "out" / "pipeline").exists()
    for file in tmp_path.glob("out/stages/*/checkpoints/step-*/tensors.safetensors"):
        assert all(float(t.abs().max()) < 1e4 for t in load_file(file).values() if t.is_floating_point())
    train_sd(changed(wild, **{stage: {"lr": 1e-3}}), data=data, out=tmp_path / "other")


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_time_but_no_bit(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train_sd(spec, data=data, out=tmp_path / "whole")
    with pytest.raises(KilledError):
        train_sd(spec, data=data, out=tmp_path / "cut", on_progress=kill_at("unet", 5))
    newest = tmp_path / "cut/stages/unet/checkpoints/step-00000004/tensors.safetensors"
    content = bytearray(newest.read_bytes())
    content[-400:] = bytes(byte ^ 1 for byte in content[-400:])
    newest.write_bytes(content)
    assert_same_bits(whole, train_sd(spec, data=data, out=tmp_path / "cut"))
    assert "step-00000004: damaged" in caplog.text


@pytest.mark.slow
def test_a_finished_result_that_is_damaged_is_made_again(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = train_sd(spec, data=data, out=tmp_path / "out")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = file.read_bytes()
    for spoilt in (content[:-100], content[:-1] + bytes([content[-1] ^ 1])):
        file.write_bytes(spoilt)
        seen: list[Progress] = []
        assert train_sd(spec, data=data, out=tmp_path / "out", on_progress=seen.append) == folder
        assert seen == []  # from the last checkpoint, not trained again
        assert file.read_bytes() == content
        assert "pipeline: damaged" in caplog.text
        caplog.clear()
    vae = tmp_path / "out/stages/vae/model/diffusion_pytorch_model.safetensors"
    vae.write_bytes(vae.read_bytes()[:-1] + b"\xff")
    train_sd(spec, data=data, out=tmp_path / "out")
    assert file.read_bytes() == content


def test_pictures_that_changed_since_a_kill_are_noticed(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    base = train_sd(spec, data=data, out=tmp_path / "base")
    with pytest.raises(KilledError):
        train_sd(spec, data=data, out=tmp_path / "o", vae=base / "vae", on_progress=kill_at("unet", 3))
    one, other = data.paths()[:2]
    one.write_bytes(other.read_bytes())
    with pytest.raises(TrainingError, match="pictures"):
        train_sd(spec, data=data, out=tmp_path / "o", vae=base / "vae")


def test_a_folder_in_which_another_trains_is_refused(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    with held(tmp_path), pytest.raises(TrainingError, match="another training writes there"):
        train_sd(spec, data=data, out=tmp_path)


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
    with pytest.raises(
        ValueError, match=r"base/(pipeline/)?unet: cannot be loaded as a UNet2DConditionModel"
    ):
        load_parts(base)
    (base / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ValueError, match="FluxPipeline; give one of"):
        load_parts(base)
