"""Whole runs: from captions and pictures to a pipeline folder that diffusers loads."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from generators.training.finetune import train_sd
from generators.training.spec import SdTrainingSpec
from promptopt.base.training.errors import TrainingDataError, TrainingError
from promptopt.base.training.progress import Progress
from studies.dataset import Dataset, read_dataset, write_metadata


class KilledError(Exception):
    """Stands for a power cut."""


def changed(spec: SdTrainingSpec, **sections: dict[str, object]) -> SdTrainingSpec:
    content = spec.model_dump(mode="json")
    for section, values in sections.items():
        content[section].update(values)
    return SdTrainingSpec.model_validate(content)


def weights(pipeline: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.parent.name}/{name}": tensor
        for file in sorted(pipeline.glob("*/*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def assert_same_bits(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_a_run_ends_in_a_pipeline_that_diffusers_loads_and_draws_with(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    spec = changed(spec, validation={"every": 6}).model_copy(update={"export_dtype": "float16"})
    folder = train_sd(spec, data=data, out=tmp_path / "out", on_progress=seen.append)

    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a red wall", num_inference_steps=2, height=16, width=16, output_type="np").images[0]
    assert image.shape == (16, 16, 3)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert pipe.safety_checker is None
    assert pipe.feature_extractor is None
    assert all(tensor.dtype == torch.float16 for tensor in weights(folder).values())
    names = load_file(folder / "text_encoder" / "model.safetensors")
    assert all(name.startswith("text_model.") for name in names)  # transformers 4 finds no others

    stages = [progress.stage for progress in seen]
    assert list(dict.fromkeys(stages)) == ["vae", "latents", "unet"]
    assert (seen[-1].step, seen[-1].steps, seen[-1].seconds_left) == (6, 6, 0.0)
    assert (tmp_path / "out" / "validation" / "step-00000006.png").is_file()
    card = (folder / "README.md").read_text()
    assert data.fingerprint in card
    assert "| Images trained on (pool reference) | 20 |" in card
    assert "| Base model | none |" in card
    events = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert {"captions", "step"} <= {event["event"] for event in events}


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["vae", "unet"])
def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(
    stage: str, spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    spec = changed(spec, training={"horizontal_flip": "swap", "min_snr_gamma": 5.0})
    whole = train_sd(spec, data=data, out=tmp_path / "whole")

    def kill(progress: Progress) -> None:
        if progress.stage == stage and progress.step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        train_sd(spec, data=data, out=tmp_path / "cut", on_progress=kill)
    assert not (tmp_path / "cut" / "pipeline").exists()
    torch.rand(7)  # the global generator is elsewhere by now, and must not matter
    resumed = train_sd(spec, data=data, out=tmp_path / "cut")
    assert_same_bits(whole, resumed)
    log = (tmp_path / "cut" / "log.jsonl") if stage == "unet" else tmp_path / "cut/stages/vae/log.jsonl"
    assert [e["step"] for e in map(json.loads, log.read_text().splitlines()) if e["event"] == "resume"] == [2]


def test_a_finished_run_is_not_done_again(spec: SdTrainingSpec, data: Dataset, tmp_path: Path) -> None:
    folder = train_sd(spec, data=data, out=tmp_path / "out")
    before = (folder / "model_index.json").stat().st_mtime_ns
    seen: list[Progress] = []
    assert train_sd(spec, data=data, out=tmp_path / "out", on_progress=seen.append) == folder
    assert seen == []
    assert (folder / "model_index.json").stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused_by_name(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    train_sd(spec, data=data, out=tmp_path / "out")
    with pytest.raises(TrainingError, match=r"training\.lr"):
        train_sd(changed(spec, training={"lr": 0.5}), data=data, out=tmp_path / "out")
    # how often to save changes nothing that is learned
    train_sd(changed(spec, training={"checkpoint_every": 3}), data=data, out=tmp_path / "out")


def test_what_cannot_work_is_said_before_the_autoencoder_is_trained(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, seen = tmp_path / "out", list[Progress]()
    with pytest.raises(ValueError, match=r"/none: no text tower"):
        train_sd(spec, data=data, out=out, clip=Path("/none"), on_progress=seen.append)
    shutil.copytree(data.root, tmp_path / "long")
    write_metadata(tmp_path / "long", [replace(record, text=("a wall " * 80,)) for record in data])
    long = read_dataset(tmp_path / "long")
    with pytest.raises(TrainingError, match="1 captions have more than 77 tokens"):
        train_sd(spec, data=long, out=out, on_progress=seen.append)
    assert not seen
    assert not (out / "stages" / "vae").exists()
    assert not (out / "stages" / "tokenizer").exists()  # it would be another one with the captions mended
    cut = changed(spec, training={"long_captions": "cut", "steps": 1}, vae_training={"steps": 1})
    train_sd(cut, data=long, out=out, on_progress=seen.append)
    assert "1 captions have more than 77 tokens; what is beyond is not seen" in caplog.text


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("training", {"batch_size": 4, "gradient_accumulation": 3}, "batch_size 4 does not divide"),
        ("vae_training", {"batch_size": 4, "gradient_accumulation": 8}, "equal passes"),
        ("training", {"lr": float("nan")}, "finite"),
        ("training", {"lr": float("inf")}, "finite"),
        ("vae_training", {"kl": float("nan")}, "finite"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_when_it_is_read(
    spec: SdTrainingSpec, section: str, values: dict[str, object], words: str
) -> None:
    content = spec.model_dump(mode="python")
    content[section].update(values)
    with pytest.raises(ValueError, match=words):
        SdTrainingSpec.model_validate(content)


@pytest.mark.slow
def test_fine_tuning_starts_from_a_folder_and_reads_its_prediction_type(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    spec = changed(spec, training={"prediction_type": "epsilon"})
    base = train_sd(spec, data=data, out=tmp_path / "base")
    tune = changed(
        spec,
        vae_training={"steps": 0},
        training={"prediction_type": None, "steps": 2, "train_text_encoder": False, "lr": 1e-2},
    )
    (base / "promptopt.json").write_text('{"guidance": 2.0}')
    tuned = train_sd(tune, data=data, out=tmp_path / "tuned", init=base)
    assert (tuned / "promptopt.json").read_text() == '{"guidance": 2.0}'
    config = json.loads((tuned / "scheduler" / "scheduler_config.json").read_text())
    assert config["prediction_type"] == "epsilon"
    before, after = weights(base), weights(tuned)
    moved = {name.split("/")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"unet"}
    wrong = changed(tune, training={"prediction_type": "v_prediction"})
    wrong = changed(wrong, vae_training={"steps": 2})
    with pytest.raises(TrainingError, match="epsilon"):
        train_sd(wrong, data=data, out=tmp_path / "wrong", init=base)
    assert not (tmp_path / "wrong" / "stages" / "vae").exists()


@pytest.mark.slow
def test_zero_terminal_snr_can_be_turned_on_and_is_handed_on(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    spec = changed(spec, training={"zero_terminal_snr": False, "steps": 1})
    base = train_sd(spec, data=data, out=tmp_path / "base")
    tune = changed(spec, vae_training={"steps": 0}, training={"zero_terminal_snr": True})
    file = "scheduler/scheduler_config.json"
    assert json.loads((base / file).read_text())["rescale_betas_zero_snr"] is False
    pndm = json.loads((base / file).read_text()) | {"_class_name": "PNDMScheduler", "skip_prk_steps": True}
    for name, content in {"same": None, "pndm": pndm}.items():
        if content is not None:
            (base / file).write_text(json.dumps(content))
            index = json.loads((base / "model_index.json").read_text())
            (base / "model_index.json").write_text(
                json.dumps(index | {"scheduler": ["diffusers", "PNDMScheduler"]})
            )
        tuned = train_sd(tune, data=data, out=tmp_path / name, init=base)
        config = json.loads((tuned / file).read_text())
        assert (config["rescale_betas_zero_snr"], config["timestep_spacing"]) == (True, "trailing")
        StableDiffusionPipeline.from_pretrained(tuned)


@pytest.mark.slow
def test_a_vae_that_is_fine_tuned_keeps_its_scale(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    base = train_sd(spec, data=data, out=tmp_path / "base")
    tuned = train_sd(
        changed(spec, vae_training={"parts": "decoder"}), data=data, out=tmp_path / "tuned", init=base
    )
    read = [json.loads((folder / "vae/config.json").read_text()) for folder in (base, tuned)]
    assert read[0]["scaling_factor"] == read[1]["scaling_factor"]
    before, after = weights(base), weights(tuned)
    moved = {n for n in before if n.startswith("vae/") and not torch.equal(before[n], after[n])}
    assert moved
    assert all("decoder" in name or "post_quant" in name for name in moved)


def test_one_bad_picture_is_named(spec: SdTrainingSpec, data: Dataset, tmp_path: Path) -> None:
    (data.root / "images" / "07.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(TrainingDataError, match=r"07\.png: not a readable image.*Replace"):
        train_sd(spec, data=data, out=tmp_path / "out")


def test_only_the_reference_pool_is_trained_on(spec: SdTrainingSpec, data: Dataset, tmp_path: Path) -> None:
    (data.root / "images" / "22.png").write_bytes(b"not a picture, and of the test pool")
    assert train_sd(spec, data=data, out=tmp_path / "out").is_dir()
    with pytest.raises(TrainingDataError, match="reference"):
        train_sd(spec, data=data.where(pool="test"), out=tmp_path / "none")
