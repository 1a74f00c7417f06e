"""LoRA and DreamBooth: what is trained, what stays, and the faults that such trainers have in silence."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file

from generators.fetching import fetch
from generators.loading import load
from generators.store import ImageStore
from generators.training.denoising import Batches
from generators.training.dreambooth import tokens_of, train_dreambooth
from generators.training.finetune import train_sd
from generators.training.lora import attach_lora, cast_frozen
from generators.training.parts import load_parts
from generators.training.spec import DreamBoothSpec, LoraSpec, SdTrainingSpec
from promptopt.base.training.denormals import denormals
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.progress import Progress
from studies.dataset import Dataset
from tests.generators.micro import build_micro_pipeline, build_micro_xl_pipeline
from tests.generators.training.test_finetune import KilledError, changed


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return build_micro_pipeline(tmp_path / "base")


@pytest.fixture
def adapters(spec: SdTrainingSpec) -> SdTrainingSpec:
    spec = changed(spec, vae_training={"steps": 0}, training={"steps": 4, "lr": 1e-2})
    return spec.model_copy(update={"size": 32, "lora": LoraSpec(rank=2, alpha=4)})


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "pytorch_lora_weights.safetensors")


def test_an_adapter_changes_the_pictures_and_leaves_the_checkpoint_alone(
    adapters: SdTrainingSpec, data: Dataset, base: Path, tmp_path: Path
) -> None:
    before = {file: file.read_bytes() for file in base.glob("*/*.safetensors")}
    folder = train_sd(adapters, data=data, out=tmp_path / "out", init=base)
    assert folder == tmp_path / "out" / "lora"
    assert {file: file.read_bytes() for file in before} == before
    pipe = StableDiffusionPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)

    def draw() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.from_numpy(
            pipe("red", num_inference_steps=2, generator=generator, output_type="np").images
        )

    plain = draw()
    pipe.load_lora_weights(folder)
    assert float((draw() - plain).abs().max()) > 1e-4
    kinds = {name.split(".")[0] for name in tensors(folder)}
    assert kinds == {"unet", "text_encoder"}
    assert "LoRA of rank 2" in (folder / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("lora", [{}, {"rslora": True}, {"dora": True}, {"dropout": 0.3}])
def test_adapters_resume_to_the_bit(
    lora: dict[str, object], adapters: SdTrainingSpec, data: Dataset, base: Path, tmp_path: Path
) -> None:
    spec = adapters.model_copy(update={"lora": LoraSpec(rank=2, alpha=4, **lora)})
    whole = train_sd(spec, data=data, out=tmp_path / "whole", init=base)

    def kill(progress: Progress) -> None:
        if progress.stage == "unet" and progress.step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        train_sd(spec, data=data, out=tmp_path / "cut", init=base, on_progress=kill)
    torch.rand(5)  # dropout must not depend on where the global generator is
    again = train_sd(spec, data=data, out=tmp_path / "cut", init=base)
    one, other = tensors(whole), tensors(again)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_adapters_are_held_in_float32_whatever_the_base_is(base: Path) -> None:
    parts = load_parts(base)
    parts.unet.to(torch.bfloat16)
    attach_lora(parts, LoraSpec(rank=2), text=False, seed=0)
    from generators.training.optimizer import method
    from generators.training.spec import LoopSpec
    from promptopt.base.training.loop import Loop

    Loop(
        stage="t",
        modules={"unet": parts.unet},
        loss=lambda step, rows: sum(p.square().sum() for p in parts.unet.parameters() if p.requires_grad),
        method=method(LoopSpec(steps=1), stage="t", rates={"unet": 1e-3}),
    ).run()
    kinds = {(p.requires_grad, p.dtype) for p in parts.unet.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}


@pytest.mark.slow
@pytest.mark.parametrize("lora", [{}, {"dora": True}])
def test_adapters_learn_beside_weights_of_half_precision(
    lora: dict[str, object], adapters: SdTrainingSpec, data: Dataset, base: Path, tmp_path: Path
) -> None:
    spec = adapters.model_copy(update={"lora": LoraSpec(rank=2, alpha=4, **lora)})
    whole = tensors(train_sd(spec, data=data, out=tmp_path / "whole", init=base))
    spec = changed(spec, training={"precision": "bf16"}, validation={"every": 4, "images": 1})
    half = tensors(train_sd(spec, data=data, out=tmp_path / "half", init=base))
    assert (tmp_path / "half" / "validation" / "step-00000004.png").is_file()
    moved = {name: tensor for name, tensor in whole.items() if "lora_B" in name}
    assert {tensor.dtype for tensor in half.values()} == {torch.float32}
    size = sum(float(tensor.square().sum()) for tensor in moved.values())
    apart = sum(float((half[name] - tensor).square().sum()) for name, tensor in moved.items())
    # Adam's first steps have the size of the rate and the gradient's sign alone, so that some turn around
    assert 0 < apart < 0.5 * size


def test_frozen_weights_are_halved_and_trained_ones_are_not(base: Path) -> None:
    parts = load_parts(base)
    attach_lora(parts, LoraSpec(rank=2), text=False, seed=0)
    for norms in (False, True):
        cast_frozen(parts.unet, torch.bfloat16, norms=norms)
        kinds = {
            (weight.requires_grad, "norm" in name, weight.dtype)
            for name, weight in parts.unet.named_parameters()
        }
        assert kinds == {
            (True, False, torch.float32),
            (False, False, torch.bfloat16),
            (False, True, torch.bfloat16 if norms else torch.float32),
        }


def test_adapters_for_no_layer_are_refused_by_key(adapters: SdTrainingSpec, base: Path) -> None:
    with pytest.raises(TrainingError, match=r"lora\.targets \['nothing'\]"):
        attach_lora(load_parts(base), LoraSpec(targets=("nothing",)), text=False, seed=0)


def test_adapters_need_a_checkpoint(adapters: SdTrainingSpec, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="checkpoint"):
        train_sd(adapters, data=data, out=tmp_path / "out")


@pytest.mark.slow
def test_sdxl_learns_by_adapters_on_cached_text(
    adapters: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    base = build_micro_xl_pipeline(tmp_path / "xl")
    with pytest.raises(TrainingError, match="train_text_encoder"):
        train_sd(adapters, data=data, out=tmp_path / "text", init=base)
    spec = changed(adapters, training={"train_text_encoder": False}, validation={"every": 4, "images": 2})
    folder = train_sd(spec, data=data, out=tmp_path / "out", init=base)
    assert (tmp_path / "out" / "validation" / "step-00000004.png").is_file()
    pipe = StableDiffusionXLPipeline.from_pretrained(base, add_watermarker=False)
    pipe.load_lora_weights(folder)
    assert pipe.get_active_adapters() == ["default_0"]


# --- prior preservation ------------------------------------------------------------------------------------


def test_half_of_a_batch_are_class_images_and_each_half_is_a_mean() -> None:
    batches = Batches(20, batch_size=8, seed=0, prior=6, prior_weight=0.5)
    for step in range(9):
        chosen = batches.of(step)
        assert all(index < 14 for index in chosen[:4])
        assert all(14 <= index < 20 for index in chosen[4:])
    assert batches.counts.tolist() == [0.25] * 4 + [0.125] * 4
    with pytest.raises(TrainingError, match="even"):
        Batches(20, batch_size=7, seed=0, prior=6)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [2, 4])
def test_min_snr_weighs_each_picture_of_both_halves_by_its_own_timestep(
    batch_size: int, adapters: SdTrainingSpec, data: Dataset, base: Path, tmp_path: Path
) -> None:
    # weights of the wrong shape would broadcast: each picture would count by the others' timesteps, and a
    # batch taken picture by picture would not give the gradient of the whole one
    spec = changed(
        adapters,
        training={"min_snr_gamma": 5.0, "batch_size": batch_size, "steps": 2, "optimizer": "sgd"},
        dreambooth={"class_images": 3, "class_steps": 1, "prior_weight": 0.5},
    )

    def train(passes: int) -> dict[str, torch.Tensor]:
        split = changed(spec, training={"gradient_accumulation": passes})
        return tensors(
            train_dreambooth(
                *(split,),
                data=data,
                out=tmp_path / str(passes),
                init=str(base),
                store=tmp_path / "store",
                device="cpu",
            )
        )

    one, each = train(1), train(batch_size)
    start = tensors(
        train_dreambooth(
            *(changed(spec, training={"steps": 0}),),
            data=data,
            out=tmp_path / "0",
            init=str(base),
            store=tmp_path / "store",
            device="cpu",
        )
    )
    moved = max(float((one[name] - start[name]).abs().max()) for name in one)
    apart = max(float((one[name] - each[name]).abs().max()) for name in one)
    assert moved > 0
    assert apart < 1e-3 * moved


@pytest.mark.slow
def test_every_label_has_its_token_and_class_images_are_those_of_the_full_request(
    adapters: SdTrainingSpec, data: Dataset, base: Path, tmp_path: Path
) -> None:
    settings = {"class_images": 3, "class_steps": 1, "subjects": {"red": "a red wall"}}
    spec = changed(adapters, training={"steps": 2}, dreambooth=settings)
    store = ImageStore(tmp_path / "store")
    seen: list[Progress] = []

    def train(name: str, spec: SdTrainingSpec, init: Path) -> Path:
        return train_dreambooth(
            *(spec,),
            data=data,
            out=tmp_path / name,
            init=str(init),
            store=tmp_path / "store",
            device="cpu",
            on_progress=seen.append,
        )

    card = (train("one", spec, base) / "README.md").read_text()
    assert "`a colonoscopy image of zwx a red wall`" in card
    assert "| Class images (made by the base model) | 9 |" in card
    made = len(list(store.root.rglob("*.png")))
    assert made == 9
    # the same again makes none; another prompt, or another model, shares none
    train("two", spec, base)
    assert len(list(store.root.rglob("*.png"))) == made
    other = changed(spec, dreambooth={**settings, "class_prompt": "a photo of {subject}"})
    train("three", other, base)
    assert len(list(store.root.rglob("*.png"))) == 2 * made
    train("four", spec, build_micro_pipeline(tmp_path / "other", seed=1))
    assert len(list(store.root.rglob("*.png"))) == 3 * made
    assert {"class images", "unet"} <= {progress.stage for progress in seen}


@pytest.mark.slow
def test_class_images_are_the_same_bytes_wherever_they_are_made(
    adapters: SdTrainingSpec, data: Dataset, base: Path, tmp_path: Path
) -> None:
    spec = changed(
        adapters, training={"steps": 0}, dreambooth={"class_images": 2, "class_steps": 2, "per": "category"}
    )

    def made(on: str) -> dict[str, bytes]:
        folder = tmp_path / on.partition(":")[0]
        train_dreambooth(
            *(spec,),
            data=data,
            out=folder / "out",
            init=str(base),
            store=folder / "store",
            on=on,
            device="cpu",
        )
        return {path.name: path.read_bytes() for path in (folder / "store").rglob("*.png")}

    with denormals(flushed=True):  # as the command trains
        here, elsewhere = made("here"), made("processes:1")
    assert len(here) == 2
    assert here == elsewhere
    request = load(str(base), device="cpu").request("a colonoscopy image of polyps", 0, steps=2)
    alone = fetch(ImageStore(tmp_path / "alone"), load(str(base), device="cpu"), [request])[0].path
    assert here[alone.name] == alone.read_bytes()


def test_too_few_tokens_are_said_with_the_groups(data: Dataset) -> None:
    with pytest.raises(TrainingError, match=r"2 tokens and the data 3 groups \(blue, green, red\)"):
        tokens_of(DreamBoothSpec(tokens=("a", "b")), data.records)


def test_a_dreambooth_recipe_without_placeholders_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lacks \{token\}"):
        DreamBoothSpec(instance_prompt="a polyp, {subject}")


def test_class_images_can_be_left_out(
    adapters: SdTrainingSpec, data: Dataset, base: Path, tmp_path: Path
) -> None:
    spec = changed(adapters, training={"steps": 1}, dreambooth={"class_images": 0})
    train_dreambooth(spec, data=data, out=tmp_path / "o", init=str(base), store=tmp_path / "s", device="cpu")
    assert not (tmp_path / "s").exists()
