"""save_lora, each layout read back by the other project's own loader and drawn by diffusers' own pipeline."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoHaConfig, LoraConfig, PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from generators import GeneratorError, load
from generators.folder import ModelDefaults
from generators.training.lora_export import save_lora
from promptopt.base.training.errors import TrainingError
from tests.generators.loras import UNET, adapted_pipeline, difference, draw, plain_pipeline

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {
        "rank_pattern": {"to_q": 2},
        "alpha_pattern": {"attn2.to_k": 3},
        "own_text": {"rank_pattern": {"fc1": 3}, "alpha_pattern": {"q_proj": 2}},
    },
}


@pytest.fixture(scope="module", params=VARIANTS)
def trained(
    request: pytest.FixtureRequest, micro_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The name of a variant, the images of the pipeline it was trained in, and where it was saved."""
    pipeline = adapted_pipeline(micro_folder, **VARIANTS[request.param])
    images = draw(pipeline)
    assert difference(images, draw(plain_pipeline(micro_folder))) > 0.05  # an adapter worth keeping
    folder = tmp_path_factory.mktemp(request.param) / "lora"
    save_lora(folder, unet=pipeline.unet, text_encoder=pipeline.text_encoder, card="# A card\n")
    return request.param, images, folder


@pytest.mark.slow
def test_diffusers_reads_its_layout(trained: Any, micro_folder: Path) -> None:
    _, images, folder = trained
    pipeline = plain_pipeline(micro_folder)
    pipeline.load_lora_weights(folder, weight_name="pytorch_lora_weights.safetensors")
    assert difference(draw(pipeline), images) == 0


def test_peft_reads_its_folders(trained: Any, micro_folder: Path) -> None:
    _, images, folder = trained
    pipeline = plain_pipeline(micro_folder)
    for name in ("unet", "text_encoder"):
        wrapped = PeftModel.from_pretrained(getattr(pipeline, name), str(folder / name))
        setattr(pipeline, name, wrapped.base_model.model)
    assert difference(draw(pipeline), images) == 0


def test_a_text_encoders_folder_has_the_names_of_transformers_4_and_of_5(trained: Any) -> None:
    tensors = load_file(trained[2] / "text_encoder" / "adapter_model.safetensors")
    bare = {name for name in tensors if "text_model." not in name}
    assert len(tensors) == 2 * len(bare) > 0
    for name in bare:
        other = name.replace("base_model.model.", "base_model.model.text_model.")
        assert torch.equal(tensors[name], tensors[other])


def test_diffusers_reads_kohyas_layout(trained: Any, micro_folder: Path) -> None:
    variant, images, folder = trained
    if variant == "dora":
        assert not (folder / "kohya.safetensors").exists()
        assert "no kohya file" in (folder / "README.md").read_text()
        return
    pipeline = plain_pipeline(micro_folder)
    pipeline.load_lora_weights(folder, weight_name="kohya.safetensors")
    assert difference(draw(pipeline), images) < 1e-5


@pytest.mark.slow
def test_our_own_backend_reads_every_layout(trained: Any, micro_folder: Path) -> None:
    variant, images, folder = trained
    places = ["", "/pytorch_lora_weights.safetensors"]
    if variant != "dora":
        places.append("/kohya.safetensors")
    for place in places:
        generator = load(f"{micro_folder}+lora:{folder}{place}", device="cpu")
        # fused, so each weight is rounded once more: not bit-equal
        assert difference(draw(_silent(generator)), images) < 2e-5, place
    only_peft = folder.with_name("peft")
    for name in ("unet", "text_encoder"):
        shutil.copytree(folder / name, only_peft / name, dirs_exist_ok=True)
    generator = load(f"{micro_folder}+lora:{only_peft}", device="cpu")
    assert difference(draw(_silent(generator)), images) < 2e-5


def _silent(generator: Any) -> Any:
    generator._pipeline.set_progress_bar_config(disable=True)
    return generator._pipeline


def test_alpha_lost_on_saving_would_show(micro_folder: Path, tmp_path: Path) -> None:
    """The fault that trainers had: a file without its header, alpha taken for the rank."""
    pipeline = adapted_pipeline(micro_folder, lora_alpha=8, r=4)
    images = draw(pipeline)
    folder = save_lora(tmp_path / "lora", unet=pipeline.unet, text_encoder=pipeline.text_encoder, card="#")
    path = folder / "pytorch_lora_weights.safetensors"
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["lora_adapter_metadata"])
    assert (header["unet.r"], header["unet.lora_alpha"]) == (4, 8)
    again = plain_pipeline(micro_folder)
    again.load_lora_weights(folder, weight_name="pytorch_lora_weights.safetensors")
    assert difference(draw(again), images) == 0
    save_file(load_file(path), tmp_path / "headless.safetensors")
    lost = plain_pipeline(micro_folder)
    lost.load_lora_weights(tmp_path, weight_name="headless.safetensors")
    assert difference(draw(lost), images) > 0.01


def test_a_unet_alone_is_enough(micro_folder: Path, tmp_path: Path) -> None:
    pipeline = adapted_pipeline(micro_folder, text=False)
    images = draw(pipeline)
    folder = save_lora(
        tmp_path / "lora", unet=pipeline.unet, card="# A card", defaults=ModelDefaults(guidance=2.0, steps=9)
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "kohya.safetensors", "promptopt.json", "pytorch_lora_weights.safetensors", "unet",
    ]  # fmt: skip
    assert json.loads((folder / "promptopt.json").read_text()) == {"guidance": 2.0, "steps": 9}
    for name in ("kohya.safetensors", "pytorch_lora_weights.safetensors"):
        again = plain_pipeline(micro_folder)
        again.load_lora_weights(folder, weight_name=name)
        assert difference(draw(again), images) == 0, name


def test_kohya_names_are_those_of_sd_scripts(trained: Any) -> None:
    variant, _, folder = trained
    if variant == "dora":
        return
    tensors = load_file(folder / "kohya.safetensors")
    assert (
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_down.weight" in tensors
    )
    assert "lora_te_text_model_encoder_layers_1_mlp_fc1.lora_up.weight" in tensors
    names = {key.partition(".")[0] for key in tensors}
    for name in names:
        rank = tensors[f"{name}.lora_down.weight"].shape[0]
        assert tensors[f"{name}.lora_up.weight"].shape[1] == rank
        assert tensors[f"{name}.alpha"].shape == ()
        if variant == "rslora" and name.startswith("lora_unet"):
            assert float(tensors[f"{name}.alpha"]) == 7 * 4**0.5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_saved_as_halves_and_alphas_whole(micro_folder: Path, tmp_path: Path, dtype: str) -> None:
    pipeline = adapted_pipeline(micro_folder, use_rslora=True)
    folder = save_lora(
        tmp_path / "l", unet=pipeline.unet, text_encoder=pipeline.text_encoder, card="#", dtype=dtype
    )
    for path in folder.rglob("*.safetensors"):
        for key, tensor in load_file(path).items():
            assert tensor.dtype == (torch.float32 if key.endswith(".alpha") else getattr(torch, dtype))
    assert next(pipeline.unet.parameters()).dtype == torch.float32  # the trainer's own are as they were


def test_the_same_adapter_is_saved_to_the_same_bytes(micro_folder: Path, tmp_path: Path) -> None:
    one, other = (adapted_pipeline(micro_folder) for _ in range(2))
    folders = [save_lora(tmp_path / str(i), unet=p.unet, card="#") for i, p in enumerate((one, other))]
    for path in folders[0].rglob("*.*"):
        assert path.read_bytes() == (folders[1] / path.relative_to(folders[0])).read_bytes(), path


@pytest.mark.slow
def test_sdxl_layers_have_stabilitys_names(tmp_path: Path) -> None:
    """diffusers' own conversion from kohya's SDXL names must find every layer again."""
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16, 16),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
    )
    unet.add_adapter(
        LoraConfig(
            r=2, lora_alpha=3, target_modules=[*UNET, "conv2", "time_emb_proj", "conv_shortcut", "conv"]
        )
    )
    folder = save_lora(tmp_path / "lora", unet=unet, card="#")
    kohya = load_file(folder / "kohya.safetensors")
    assert "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight" in kohya
    found, alphas = StableDiffusionXLPipeline.lora_state_dict(dict(kohya), unet_config=unet.config)
    again = UNet2DConditionModel.from_config(unet.config)
    again.load_lora_adapter(dict(found), network_alphas=dict(alphas), prefix="unet")
    theirs, ours = again.state_dict(), unet.state_dict()
    names = [name for name in ours if "lora_" in name]
    assert len(names) == len(kohya) * 2 // 3
    for name in names:
        assert torch.equal(theirs[name.replace(".default.", ".default_0.")], ours[name]), name


class TestBadInput:
    def test_no_adapter(self, micro_folder: Path, tmp_path: Path) -> None:
        pipeline = adapted_pipeline(micro_folder, text=False)
        with pytest.raises(TrainingError, match=r"text_encoder has no adapter 'default'.*add_adapter"):
            save_lora(tmp_path / "l", unet=pipeline.unet, text_encoder=pipeline.text_encoder, card="#")
        assert list(tmp_path.iterdir()) == []

    def test_another_method(self, micro_folder: Path, tmp_path: Path) -> None:
        unet = plain_pipeline(micro_folder).unet
        unet.add_adapter(LoHaConfig(r=2, target_modules=["to_q"]))
        with pytest.raises(TrainingError, match="LOHA"):
            save_lora(tmp_path / "l", unet=unet, card="#")

    @pytest.mark.parametrize(
        ("settings", "said"),
        [({"lora_bias": True}, "lora_bias"), ({"init_lora_weights": "olora"}, "olora.*base model")],
    )
    def test_what_no_layout_holds(
        self, micro_folder: Path, tmp_path: Path, settings: dict[str, Any], said: str
    ) -> None:
        unet = plain_pipeline(micro_folder).unet
        unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"], **settings))
        with pytest.raises(TrainingError, match=said):
            save_lora(tmp_path / "l", unet=unet, card="#")

    @pytest.mark.parametrize(("value", "dtype"), [(float("nan"), "float32"), (1e6, "float16")])
    def test_values_that_are_not_finite(
        self, micro_folder: Path, tmp_path: Path, value: float, dtype: str
    ) -> None:
        unet = adapted_pipeline(micro_folder, text=False).unet
        next(w for n, w in unet.named_parameters() if "lora_B" in n).data.fill_(value)
        with pytest.raises(TrainingError, match="not finite"):
            save_lora(tmp_path / "l", unet=unet, card="#", dtype=dtype)
        with pytest.raises(TrainingError, match="int4"):
            save_lora(tmp_path / "l", unet=unet, card="#", dtype="int4")

    def test_a_full_disk_leaves_the_last_adapter(
        self, micro_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline = adapted_pipeline(micro_folder)
        folder = save_lora(tmp_path / "lora", unet=pipeline.unet, card="# one")
        before = {path: path.read_bytes() for path in folder.rglob("*.*")}
        write = Path.write_bytes

        def full(path: Path, content: bytes) -> int:
            if path.name == "kohya.safetensors":
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return write(path, content)

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            save_lora(folder, unet=pipeline.unet, card="# two")
        assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
        assert [path.name for path in tmp_path.iterdir()] == ["lora"]
        monkeypatch.undo()
        save_lora(folder, unet=pipeline.unet, card="# two")
        assert (folder / "README.md").read_text() == "# two\n"
        assert [path.name for path in tmp_path.iterdir()] == ["lora"]

    def test_a_damaged_file_is_named(self, micro_folder: Path, tmp_path: Path) -> None:
        folder = save_lora(tmp_path / "l", unet=adapted_pipeline(micro_folder).unet, card="#")
        path = folder / "pytorch_lora_weights.safetensors"
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(GeneratorError, match=r"pytorch_lora_weights\.safetensors: cannot be read"):
            load(f"{micro_folder}+lora:{folder}", device="cpu")
