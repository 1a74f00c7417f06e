"""A generator's card asks as the generator does, and reads no weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import promptopt.base.files as files
from generators import Generator, GeneratorError, PromptTooLongError, load
from generators.base import GeneratorCard
from generators.card import has_card, read_card, runtime_facts
from generators.loading import EMBEDDED
from generators.stable_diffusion.facts import RuntimeFacts
from tests.generators.micro import build_micro_pipeline, build_micro_xl_pipeline

FACTS = runtime_facts(device="cpu")
GPU = RuntimeFacts(
    device="cuda",
    dtype="float16",
    batch_size=16,
    compiled=True,
    versions="torch=2.9;batch=16;gpu=NVIDIA H100",
)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"steps": 3, "guidance": 1.0, "scheduler": "ddim", "width": 96, "height": 32},
        {"negative_prompt": "text, blurry"},
    ],
)
def test_card_and_generator_make_the_same_request(settings: dict[str, Any]) -> None:
    generator, card = load("embedded", device="cpu"), read_card("embedded", facts=FACTS)
    assert card.request("a polyp", 7, **settings) == generator.request("a polyp", 7, **settings)
    assert card.max_tokens == generator.max_tokens
    for prompt in ("", "a polyp", "Polyp mit Stiel, \u00e9\u4e2d " * 9):
        assert card.count_tokens(prompt) == generator.count_tokens(prompt)
    assert isinstance(generator, GeneratorCard)
    assert isinstance(card, GeneratorCard)
    assert not isinstance(card, Generator)


@pytest.mark.parametrize(
    "settings", [{"width": 33}, {"scheduler": "nosuch"}, {"steps": 2000}, {"prompt": "polyp " * 100}]
)
def test_card_refuses_what_the_generator_refuses_in_the_same_words(settings: dict[str, Any]) -> None:
    errors = []
    for one in (load("embedded", device="cpu"), read_card("embedded", facts=FACTS)):
        with pytest.raises(GeneratorError) as caught:
            one.request(**{"prompt": "a polyp", "seed": 1, **settings})
        errors.append(caught.value)
    assert str(errors[0]) == str(errors[1])
    assert type(errors[0]) is type(errors[1])
    assert isinstance(errors[0], PromptTooLongError) == ("prompt" in settings)


@pytest.mark.parametrize("xl", [False, True])
def test_cards_of_folders_know_what_loading_finds(xl: bool, tmp_path: Path) -> None:
    folder = (build_micro_xl_pipeline if xl else build_micro_pipeline)(tmp_path / "model")
    generator, card = load(str(folder), device="cpu"), read_card(str(folder), facts=FACTS)
    assert card.request("a polyp", 3) == generator.request("a polyp", 3)
    assert card.max_tokens == generator.max_tokens


def test_card_needs_no_weights_but_their_checksums_and_reads_those_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(EMBEDDED, tmp_path / "sd")
    digests = tmp_path / "store" / "weights.json"
    monkeypatch.setattr(files, "_SETTLED", -1.0)  # as if the files were old
    first = read_card(str(folder), facts=GPU, digests=digests)
    assert first.fingerprint == load("embedded", device="cpu").fingerprint

    def never(*_: object) -> None:
        raise AssertionError("the weights are read again")

    files._digests.clear()
    monkeypatch.setattr("hashlib.file_digest", never)
    assert read_card(str(folder), facts=GPU, digests=digests).fingerprint == first.fingerprint
    with (folder / "unet" / "diffusion_pytorch_model.safetensors").open("ab") as weights:
        weights.write(b"\0")
    with pytest.raises(AssertionError, match="read again"):
        read_card(str(folder), facts=GPU, digests=digests)


def test_card_speaks_of_the_machine_that_makes_the_images() -> None:
    request = read_card("embedded", facts=GPU).request("a polyp", 1)
    assert (request.device, request.dtype, request.versions) == ("cuda", "float16", GPU.versions)


def test_what_has_to_be_loaded_to_be_known_has_no_card(tmp_path: Path) -> None:
    assert has_card("embedded")
    assert has_card(f"{EMBEDDED}+lora:x@0.5")
    assert has_card("hf:owner/name")
    assert has_card("models/mine.safetensors")
    assert not has_card("clip-guided:embedded?mode=best")
    assert not has_card("clip-guided:models/mine.safetensors")
    assert not has_card(str(tmp_path / "nowhere"))
    with pytest.raises(GeneratorError, match="is no model folder"):
        read_card("clip-guided:embedded", facts=FACTS)
