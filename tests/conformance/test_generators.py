"""What every Generator must do. A new kind of generator is one more line in FACTORIES."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from generators import Generator, GeneratorError, ImageRequest, ImageStore, PromptTooLongError, fetch, load
from generators.loading import EMBEDDED
from tests.generators.micro import build_micro_pipeline, build_micro_xl_pipeline

# name -> makes a folder (the one argument is an empty one to build in), and the URI of what stands on it
FACTORIES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "micro": (lambda empty: build_micro_pipeline(empty / "sd"), "{folder}"),
    "micro-v": (
        lambda empty: build_micro_pipeline(empty / "sd", seed=1, prediction_type="v_prediction"),
        "{folder}",
    ),
    "micro-xl": (lambda empty: build_micro_xl_pipeline(empty / "xl", seed=2), "{folder}"),
    "embedded": (lambda _: EMBEDDED, "{folder}"),
    "clip-best": (lambda empty: build_micro_pipeline(empty / "sd"), "clip-guided:{folder}?n=2"),
    "clip-gradient": (lambda empty: build_micro_pipeline(empty / "sd"), "clip-guided:{folder}?mode=gradient"),
}
STEPS = 3


@pytest.fixture(scope="module", params=FACTORIES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    build, uri = FACTORIES[request.param]
    made = build(tmp_path_factory.mktemp(request.param))
    if not (made / "model_index.json").is_file():
        pytest.skip(f"{request.param} is not built yet")
    return made, uri


@pytest.fixture(scope="module")
def folder(place: tuple[Path, str]) -> Path:
    return place[0]


@pytest.fixture(scope="module")
def uri(place: tuple[Path, str]) -> str:
    """Address of the generator, with {folder} for the model's folder."""
    return place[1]


@pytest.fixture(scope="module")
def generator(folder: Path, uri: str) -> Generator:
    return load(uri.format(folder=folder), device="cpu", batch_size=4)


def _request(
    generator: Generator, prompt: str = "a polyp", seed: int = 3, **settings: object
) -> ImageRequest:
    return generator.request(prompt, seed, **{"steps": STEPS, **settings})  # type: ignore[arg-type]


def _pixels(images: list[Image.Image]) -> list[bytes]:
    assert all(image.mode == "RGB" for image in images)
    return [np.asarray(image).tobytes() for image in images]


def _one(generator: Generator, request: ImageRequest) -> bytes:
    return _pixels(list(generator.generate([request])))[0]


def test_it_is_a_generator(generator: Generator) -> None:
    assert isinstance(generator, Generator)
    assert generator.uri
    assert generator.max_tokens > 2


def test_same_request_gives_the_same_pixels(generator: Generator) -> None:
    request = _request(generator)
    assert _one(generator, request) == _one(generator, request)


def test_same_request_gives_the_same_pixels_after_loading_again(
    generator: Generator, folder: Path, uri: str
) -> None:
    again = load(uri.format(folder=folder), device="cpu", batch_size=4)
    request = _request(generator)
    assert _request(again) == request
    assert _one(again, request) == _one(generator, request)


@pytest.mark.parametrize("scheduler", ["dpmpp_2m", "dpmpp_2m_sde", "ddim"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_an_image_does_not_depend_on_its_batch(generator: Generator, scheduler: str, guidance: float) -> None:
    target = _request(generator, scheduler=scheduler, guidance=guidance)
    alone = _one(generator, target)
    mates = [
        _request(
            generator, f"a snare {seed}", seed, scheduler=scheduler, guidance=guidance, negative_prompt=n
        )
        for seed, n in enumerate(["", "blurry", "a much longer negative prompt", "", "text"])
    ]
    for position in (0, 2, 5):  # within the first batch of four, and within the padded one
        batch = [*mates[:position], target, *mates[position:]]
        assert _pixels(list(generator.generate(batch)))[position] == alone


def test_order_and_mixture_do_not_matter(generator: Generator) -> None:
    requests = [
        _request(generator, prompt, seed, guidance=guidance, steps=steps)
        for seed, (prompt, guidance, steps) in enumerate(
            [
                ("a", 4.0, 2),
                ("b", 1.0, 2),
                ("c", 4.0, 3),
                ("d", 4.0, 2),
                ("e", 1.0, 2),
                ("f", 4.0, 2),
                ("g", 4.0, 2),
            ]
        )
    ]
    forwards = _pixels(list(generator.generate(requests)))
    assert forwards == _pixels(list(generator.generate(requests[::-1])))[::-1]
    assert forwards == [_one(generator, request) for request in requests]


def test_equal_requests_give_equal_images(generator: Generator) -> None:
    request, other = _request(generator), _request(generator, seed=4)
    first, _, third = _pixels(list(generator.generate([request, other, request])))
    assert first == third


def test_seed_prompt_and_guidance_change_the_image(generator: Generator) -> None:
    images = [
        _one(generator, _request(generator)),
        _one(generator, _request(generator, seed=4)),
        _one(generator, _request(generator, "metal clip at the pylorus")),
        _one(generator, _request(generator, guidance=1.0)),
        _one(generator, _request(generator, negative_prompt="text")),
    ]
    assert len(set(images)) == len(images)


def test_negative_prompt_is_idle_without_guidance(generator: Generator) -> None:
    plain = _request(generator, guidance=1.0)
    assert _one(generator, plain) == _one(
        generator, _request(generator, guidance=1.0, negative_prompt="text")
    )


def test_nothing_to_make(generator: Generator) -> None:
    assert list(generator.generate([])) == []


def test_empty_prompt_is_fine(generator: Generator) -> None:
    assert len(_one(generator, _request(generator, "")))


def test_too_long_prompt_is_refused_by_number(generator: Generator) -> None:
    prompt = "polyp " * 100
    with pytest.raises(PromptTooLongError) as caught:
        generator.request(prompt, 1)
    assert caught.value.count == generator.count_tokens(prompt)
    assert caught.value.limit == generator.max_tokens
    assert str(caught.value.count) in str(caught.value)
    assert str(caught.value.limit) in str(caught.value)
    assert "polyp polyp" in str(caught.value)
    kept = prompt[: len(prompt.rstrip()) - len(caught.value.lost)]
    assert generator.count_tokens(kept) <= generator.max_tokens < generator.count_tokens(f"{kept} polyp")
    with pytest.raises(PromptTooLongError):
        generator.request("fine", 1, negative_prompt=prompt)


def test_longest_prompt_is_read_to_its_end(generator: Generator) -> None:
    words = ""
    while generator.count_tokens(f"{words} a") < generator.max_tokens:
        words = f"{words} a"
    longest = [f"{words} {end}" for end in "ab"]
    assert generator.count_tokens(longest[0]) == generator.max_tokens
    assert _one(generator, _request(generator, longest[0])) != _one(
        generator, _request(generator, longest[1])
    )
    with pytest.raises(PromptTooLongError):
        generator.request(f"{longest[0]} a", 1)


def test_request_round_trip_and_defaults(generator: Generator) -> None:
    request = generator.request("a polyp", 7)
    assert ImageRequest.from_json(request.to_json()) == request
    assert request.generator == generator.fingerprint
    assert (request.prompt, request.seed, request.device) == ("a polyp", 7, "cpu")


def test_size_is_respected(generator: Generator) -> None:
    native = generator.request("a", 1)
    width, height = native.width * 2, native.height
    (image,) = generator.generate([_request(generator, width=width, height=height)])
    assert image.size == (width, height)


def test_odd_size_and_unknown_scheduler_are_refused(generator: Generator) -> None:
    with pytest.raises(GeneratorError, match="width is 33"):
        generator.request("a", 1, width=33)
    with pytest.raises(GeneratorError, match=r"nosuch.*ddim"):
        generator.request("a", 1, scheduler="nosuch")


def test_fingerprint_follows_the_weights(
    generator: Generator, folder: Path, uri: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert load(uri.format(folder=copy), device="cpu").fingerprint == generator.fingerprint
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.bias"][0] += 1
    save_file(weights, path, metadata={"format": "pt"})
    changed = load(uri.format(folder=copy), device="cpu", batch_size=4)
    assert changed.fingerprint != generator.fingerprint
    with pytest.raises(GeneratorError, match="request was made for generator"):
        changed.generate([_request(generator)])


def test_through_the_store_pixels_stay_the_same(generator: Generator, tmp_path: Path) -> None:
    requests = [_request(generator, seed=seed) for seed in range(5)]
    stored = fetch(ImageStore(tmp_path), generator, requests)
    assert _pixels([image.load() for image in stored]) == _pixels(list(generator.generate(requests)))
