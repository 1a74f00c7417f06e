"""LoRA behind a generator's URI: against diffusers' own loader, in the request's key, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from generators import GeneratorError, load
from generators.adapters.kohya import kohya_name
from generators.adapters.lora import LoraAddress, join_uri, split_uri
from generators.folder import ModelDefaults
from generators.loading import resolve
from generators.training.lora_export import save_lora
from tests.generators.loras import adapted_pipeline, difference, draw, plain_pipeline

FUSED = 2e-5
"""Fused weights are rounded once more than an unfused layer's sum, so images differ in the sixth digit."""


def images(uri: str) -> np.ndarray:
    pipeline = load(uri, device="cpu")._pipeline  # type: ignore[attr-defined]
    pipeline.set_progress_bar_config(disable=True)
    return draw(pipeline)


def diffusers_images(base: Path, *adapters: tuple[Path, float]) -> np.ndarray:
    pipeline = plain_pipeline(base)
    names = []
    for number, (folder, _) in enumerate(adapters):
        names.append(f"number_{number}")
        pipeline.load_lora_weights(folder, adapter_name=names[-1])
    if names:
        pipeline.set_adapters(names, [scale for _, scale in adapters])
    return draw(pipeline)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stack", [[("a", 0.7)], [("a", 0.5), ("b", -1.25)], [("dora", 0.6)], [("dora", 1.0), ("a", 0.5)]]
)
def test_scales_are_those_of_diffusers(
    micro_folder: Path, loras: dict[str, Path], stack: list[tuple[str, float]]
) -> None:
    uri = str(micro_folder) + "".join(f"+lora:{loras[name]}@{scale}" for name, scale in stack)
    expected = diffusers_images(micro_folder, *((loras[name], scale) for name, scale in stack))
    assert difference(expected, diffusers_images(micro_folder)) > 0.02
    assert difference(images(uri), expected) < FUSED


@pytest.mark.parametrize("name", ["a", "dora"])
def test_weights_are_those_that_diffusers_fuses(
    micro_folder: Path, loras: dict[str, Path], name: str
) -> None:
    fused = plain_pipeline(micro_folder)
    fused.load_lora_weights(loras[name])
    fused.set_adapters(fused.get_active_adapters(), [0.7])
    fused.fuse_lora()
    fused.unload_lora_weights()
    ours = load(f"{micro_folder}+lora:{loras[name]}@0.7", device="cpu")._pipeline  # type: ignore[attr-defined]
    for part in ("unet", "text_encoder"):
        theirs = getattr(fused, part).state_dict()
        for key, tensor in getattr(ours, part).state_dict().items():
            torch.testing.assert_close(tensor, theirs[key], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["a", "dora"])
def test_a_scale_of_nothing_is_the_base_model(micro_folder: Path, loras: dict[str, Path], name: str) -> None:
    plain, without = (
        load(micro_folder, device="cpu"),
        load(f"{micro_folder}+lora:{loras[name]}@0", device="cpu"),
    )
    one, other = (next(iter(g.generate([g.request("a polyp", 1, steps=2)]))) for g in (plain, without))
    assert one.tobytes() == other.tobytes()


@pytest.mark.slow
def test_the_key_holds_files_scales_and_their_order(micro_folder: Path, loras: dict[str, Path]) -> None:
    a, b = loras["a"], loras["b"]
    tails = ["", f"+lora:{a}", f"+lora:{a}@0.5", f"+lora:{b}", f"+lora:{a}+lora:{b}", f"+lora:{b}+lora:{a}"]
    generators = [load(f"{micro_folder}{tail}", device="cpu") for tail in tails]
    assert len({g.request("a", 1).key for g in generators}) == len(tails)
    assert generators[0].fingerprint == load(micro_folder, device="cpu").fingerprint
    assert generators[1].uri == f"{micro_folder}{tails[1]}"
    assert "@" not in generators[1].fingerprint


def test_a_copy_of_an_adapter_has_the_same_key(
    micro_folder: Path, loras: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(loras["a"], tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "README.md").write_text("another card")
    one = load(f"{micro_folder}+lora:{loras['a']}@1", device="cpu")
    other = load(f"{micro_folder}+lora:{tmp_path / 'elsewhere'}", device="cpu")
    assert one.fingerprint == other.fingerprint
    weights = tmp_path / "elsewhere" / "pytorch_lora_weights.safetensors"
    tensors = load_file(weights)
    name = next(key for key in tensors if "lora_B" in key)
    tensors[name][0, 0] += 0.25
    with safe_open(weights, framework="pt") as file:
        header = file.metadata()
    save_file(tensors, weights, metadata=header)
    assert load(f"{micro_folder}+lora:{tmp_path / 'elsewhere'}", device="cpu").fingerprint != one.fingerprint


def test_the_base_model_on_disk_stays_as_it_is(micro_folder: Path, loras: dict[str, Path]) -> None:
    before = {path: path.read_bytes() for path in micro_folder.rglob("*.safetensors")}
    load(f"{micro_folder}+lora:{loras['a']}", device="cpu")
    assert {path: path.read_bytes() for path in micro_folder.rglob("*.safetensors")} == before


def test_an_adapter_brings_its_sampling_defaults(micro_folder: Path, tmp_path: Path) -> None:
    trained = adapted_pipeline(micro_folder)
    base = shutil.copytree(micro_folder, tmp_path / "sd")
    (base / "promptopt.json").write_text('{"steps": 12, "guidance": 2.0}')
    save_lora(tmp_path / "lora", unet=trained.unet, card="#", defaults=ModelDefaults(guidance=3.5))
    request = load(f"{base}+lora:{tmp_path / 'lora'}", device="cpu").request("a", 1)
    assert (request.steps, request.guidance) == (12, 3.5)


@pytest.mark.slow
def test_the_embedded_model_takes_an_adapter(tmp_path: Path) -> None:
    base = resolve("embedded")
    trained = adapted_pipeline(base, strength=0.1)
    folder = save_lora(tmp_path / "l", unet=trained.unet, text_encoder=trained.text_encoder, card="#")
    expected = draw(trained)
    assert difference(expected, draw(plain_pipeline(base))) > 0.05
    assert difference(images(f"embedded+lora:{folder}"), expected) < FUSED
    again = plain_pipeline(base)
    again.load_lora_weights(folder)
    assert difference(draw(again), expected) == 0
    kohya = plain_pipeline(base)
    kohya.load_lora_weights(folder, weight_name="kohya.safetensors")
    assert difference(draw(kohya), expected) < 1e-5


def test_diffusers_own_files_are_read(micro_folder: Path, tmp_path: Path) -> None:
    """As diffusers' training scripts write them: its older key names, with and without a header."""
    from diffusers import StableDiffusionPipeline
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    attention = {"target_modules": ["to_q", "to_k", "to_v", "to_out.0"]}
    for name, alpha in (("old", 4), ("new", 9)):
        trained = adapted_pipeline(micro_folder, text=False, r=4, lora_alpha=alpha, **attention)
        trained.text_encoder.add_adapter(
            LoraConfig(r=4, lora_alpha=alpha, target_modules=["q_proj", "out_proj"], init_lora_weights=False)
        )
        expected = draw(trained)
        parts = {"unet": trained.unet, "text_encoder": trained.text_encoder}
        StableDiffusionPipeline.save_lora_weights(
            tmp_path / name,
            unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(trained.unet)),
            text_encoder_lora_layers=convert_state_dict_to_diffusers(
                get_peft_model_state_dict(trained.text_encoder)
            ),
            **(_collate_lora_metadata(parts) if name == "new" else {}),
        )
        assert difference(images(f"{micro_folder}+lora:{tmp_path / name}"), expected) < FUSED, name


def test_a_component_saved_by_itself_keeps_its_alpha(micro_folder: Path, tmp_path: Path) -> None:
    trained = adapted_pipeline(micro_folder, text=False)
    trained.unet.save_lora_adapter(tmp_path / "unet")  # its header has no component's name
    assert difference(images(f"{micro_folder}+lora:{tmp_path / 'unet'}"), draw(trained)) < FUSED


def test_kohya_files_with_dora_scale_are_read(micro_folder: Path, tmp_path: Path) -> None:
    """As LyCORIS writes DoRA: a length for each output, in a column."""
    trained = adapted_pipeline(micro_folder, text=False, use_dora=True, target_modules=["to_q", "conv1"])
    tensors = {}
    for path, module in trained.unet.named_modules():
        if not hasattr(module, "lora_magnitude_vector"):
            continue
        name = kohya_name(path, component="unet", unet=trained.unet)
        length = module.lora_magnitude_vector["default"].weight.detach()
        tensors[f"{name}.lora_down.weight"] = module.lora_A["default"].weight.detach()
        tensors[f"{name}.lora_up.weight"] = module.lora_B["default"].weight.detach()
        tensors[f"{name}.alpha"] = torch.tensor(7.0)
        tensors[f"{name}.dora_scale"] = length.reshape(-1, *[1] * (module.base_layer.weight.ndim - 1)).clone()
    file = tmp_path / "lycoris.safetensors"
    save_file(tensors, file)
    assert difference(images(f"{micro_folder}+lora:{file}"), draw(trained)) < FUSED
    for key in [key for key in tensors if key.endswith("dora_scale")]:
        tensors[key] = tensors[key].transpose(0, 1).contiguous()  # its other way: a length for each input
    save_file(tensors, file)
    with pytest.raises(GeneratorError, match=r"not one for each of its .* outputs"):
        load(f"{micro_folder}+lora:{file}", device="cpu")


@pytest.mark.slow
def test_hub_adapters_are_read_from_the_cache_offline(
    micro_folder: Path, loras: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "hub" / "models--owner--name"
    shutil.copytree(loras["a"], home / "snapshots" / commit)
    (home / "refs").mkdir()
    for name in ("main", "2"):
        (home / "refs" / name).write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    local = load(f"{micro_folder}+lora:{loras['a']}@0.5", device="cpu").fingerprint
    for address in ("hf:owner/name@0.5", "hf:owner/name@main@0.5", "hf:owner/name@2@0.5"):
        assert load(f"{micro_folder}+lora:{address}", device="cpu").fingerprint == local, address
    file = load(f"{micro_folder}+lora:hf:owner/name/kohya.safetensors@{commit}@0.5", device="cpu")
    kohya = f"{micro_folder}+lora:{loras['a'] / 'kohya.safetensors'}@0.5"
    assert file.fingerprint == load(kohya, device="cpu").fingerprint
    with pytest.raises(GeneratorError, match=r"hf:owner/other: is not in the cache.*local path"):
        load(f"{micro_folder}+lora:hf:owner/other", device="cpu")


@given(
    st.sampled_from(["embedded", "hf:o/n@v1", "/models/sd@2"]),
    st.lists(
        st.builds(
            LoraAddress,
            st.sampled_from(["x", "a/b@c/d", "/p@1", "hf:o/n", "hf:o/n@1.0", "hf:o/n/f.safetensors@main"]),
            st.floats(-1e6, 1e6).map(lambda x: round(x, 3) + 0.0),
        ),
        max_size=3,
    ),
)
def test_addresses_survive_writing_and_reading(base: str, addresses: list[LoraAddress]) -> None:
    assert split_uri(join_uri(base, addresses)) == (base, tuple(addresses))


@pytest.mark.parametrize(
    ("written", "path", "scale"),
    [
        ("x", "x", 1.0),
        ("x@.5", "x", 0.5),
        ("x@-2", "x", -2.0),
        ("hf:o/n", "hf:o/n", 1.0),
        ("hf:o/n@main", "hf:o/n@main", 1.0),
        ("hf:o/n@0.7", "hf:o/n", 0.7),
        ("hf:o/n@7e10", "hf:o/n@7e10", 1.0),
        ("hf:o/n@0.7@1", "hf:o/n@0.7", 1.0),
        ("/a@b/c", "/a@b/c", 1.0),
    ],
)
def test_a_decimal_behind_the_last_at_is_the_scale(written: str, path: str, scale: float) -> None:
    assert split_uri(f"embedded+lora:{written}")[1] == (LoraAddress(path, scale),)


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        ("+lora:", "no path follows"),
        ("+lora:x@", "scale '' .*write x@0.7"),
        ("+lora:x@half", "scale 'half'.*not a decimal"),
        ("+lora:x@nan", "scale 'nan'"),
        ("+lora:x@1e3", "scale '1e3'"),
        (f"+lora:x@{'9' * 400}", "too large"),
        ("+lora:nosuch", r"nosuch: there is no such LoRA.*hf:owner/name"),
        ("+lora:hf:owner", "not a hub address; write hf:owner/name"),
        ("+lora:hf:o/n/weights.bin", "not a hub address"),
        ("+lora:hf:o/n/../../x.safetensors", "not a hub address"),
    ],
)
def test_wrong_addresses_are_refused(micro_folder: Path, tail: str, said: str) -> None:
    with pytest.raises(GeneratorError, match=said):
        load(f"{micro_folder}{tail}", device="cpu")


def test_a_model_must_stand_before_the_adapters(micro_folder: Path) -> None:
    with pytest.raises(GeneratorError, match="no model stands before"):
        load("+lora:x")
    with pytest.raises(GeneratorError, match=r"embedded\+lora:x: a model with LoRA is no folder"):
        resolve("embedded+lora:x")
