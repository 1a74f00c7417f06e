"""What every generator must do, and what every diffusion model must do besides."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from generators import Generator, GeneratorError, ImageRequest, ImageStore, PromptTooLongError, fetch

Load = Callable[[], Generator]


class GeneratorSuite:
    """Tests of a `generators.Generator`.

    Override the fixture `load`: a function that loads the generator anew each time it is called. Where the
    generator has weights, override `load_altered` too: the same with a weight changed.

    Attributes:
        word: a word of one token.
        settings: of every request that is drawn, such as `{"steps": 3}` to be quick.
        mixtures: settings that one call of `generate` must be able to mix; each adds to `settings`.

    Example:
        >>> class TestMine(GeneratorSuite):
        ...     @pytest.fixture(scope="class")
        ...     def load(self):
        ...         return lambda: MyGenerator("weights.safetensors")
    """

    word: ClassVar[str] = "a"
    settings: ClassVar[Mapping[str, Any]] = {}
    mixtures: ClassVar[Sequence[Mapping[str, Any]]] = ({},)

    @pytest.fixture(scope="class")
    def load(self) -> Load:
        """The generator, loaded anew at each call."""
        raise NotImplementedError(f"{type(self).__name__}: override the fixture `load`")

    @pytest.fixture(scope="class")
    def load_altered(self) -> Load:
        """The generator with a weight changed."""
        pytest.skip("no `load_altered`: the generator has no weights to change")

    @pytest.fixture(scope="class")
    def generator(self, load: Load) -> Generator:
        """The generator, loaded once for the class."""
        return load()

    def asked(
        self, generator: Generator, prompt: str = "a polyp", seed: int = 3, **more: Any
    ) -> ImageRequest:
        """A request with the `settings` of the suite."""
        return generator.request(prompt, seed, **{**self.settings, **more})

    def test_is_a_generator(self, generator: Generator) -> None:
        assert isinstance(generator, Generator)
        assert re.fullmatch("[0-9a-f]{64}", generator.fingerprint), "fingerprint is no hexadecimal sha256"
        assert generator.uri.strip()
        assert generator.max_tokens > generator.count_tokens(""), "there is room for no word"

    def test_request_says_all_and_can_be_stored(self, generator: Generator) -> None:
        request = self.asked(generator, "a polyp", 7)
        assert ImageRequest.from_json(request.to_json()) == request
        assert request.generator == generator.fingerprint
        assert (request.prompt, request.seed) == ("a polyp", 7)

    def test_same_request_gives_the_same_pixels(self, generator: Generator) -> None:
        request = self.asked(generator)
        assert one(generator, request) == one(generator, request)

    def test_loading_again_changes_nothing(self, generator: Generator, load: Load) -> None:
        again = load()
        assert self.asked(again) == self.asked(generator)
        assert one(again, self.asked(again)) == one(generator, self.asked(generator))

    def test_image_has_the_requested_size(self, generator: Generator) -> None:
        request = self.asked(generator)
        (image,) = generator.generate([request])
        assert image.size == (request.width, request.height)

    def test_image_does_not_depend_on_its_batch(self, generator: Generator) -> None:
        for mixture in self.mixtures:
            target = self.asked(generator, **mixture)
            alone = one(generator, target)
            others = [self.asked(generator, f"a snare {seed}", seed, **mixture) for seed in range(5)]
            for position in (0, 2, 5):  # of six, so that a batch of four is full once and padded once
                batch = [*others[:position], target, *others[position:]]
                assert pixels(generator.generate(batch))[position] == alone, (mixture, position)

    def test_order_and_mixture_do_not_matter(self, generator: Generator) -> None:
        requests = [
            self.asked(generator, f"{self.word} {index}", index, **mixture)
            for index, mixture in enumerate([*self.mixtures] * 2)
        ]
        forwards = pixels(generator.generate(requests))
        assert forwards == pixels(generator.generate(requests[::-1]))[::-1]
        assert forwards == [one(generator, request) for request in requests]

    def test_equal_requests_give_equal_images(self, generator: Generator) -> None:
        request, other = self.asked(generator), self.asked(generator, seed=4)
        first, second, third = pixels(generator.generate([request, other, request]))
        assert first == third
        assert first != second

    def test_seed_and_prompt_change_the_image(self, generator: Generator) -> None:
        images = {
            one(generator, self.asked(generator)),
            one(generator, self.asked(generator, seed=4)),
            one(generator, self.asked(generator, "metal clip at the pylorus")),
        }
        assert len(images) == 3

    def test_nothing_to_make(self, generator: Generator) -> None:
        assert list(generator.generate([])) == []

    def test_empty_prompt_is_drawn(self, generator: Generator) -> None:
        request = self.asked(generator, "")
        assert len(one(generator, request)) == 3 * request.width * request.height

    def test_too_long_prompt_is_refused_with_both_numbers(self, generator: Generator) -> None:
        prompt = f"{self.word} " * (2 * generator.max_tokens)
        with pytest.raises(PromptTooLongError) as caught:
            self.asked(generator, prompt)
        assert caught.value.count == generator.count_tokens(prompt)
        assert caught.value.limit == generator.max_tokens
        assert str(caught.value.count) in str(caught.value)
        assert str(caught.value.limit) in str(caught.value)

    def test_longest_prompt_is_read_to_its_end(self, generator: Generator) -> None:
        words = ""
        while generator.count_tokens(f"{words} {self.word}") < generator.max_tokens:
            words = f"{words} {self.word}"
        longest, other = f"{words} {self.word}", f"{words} b"
        assert generator.count_tokens(longest) == generator.max_tokens
        images = [one(generator, self.asked(generator, prompt)) for prompt in (longest, other)]
        assert images[0] != images[1], "the last word is not read"
        with pytest.raises(PromptTooLongError):
            self.asked(generator, f"{longest} {self.word}")

    def test_fingerprint_follows_the_weights(self, generator: Generator, load_altered: Load) -> None:
        altered = load_altered()
        assert altered.fingerprint != generator.fingerprint
        with pytest.raises(GeneratorError, match=generator.fingerprint[:8]):
            list(altered.generate([self.asked(generator)]))

    def test_the_store_keeps_the_pixels(self, generator: Generator, tmp_path: Path) -> None:
        requests = [self.asked(generator, seed=seed) for seed in range(5)]
        stored = fetch(ImageStore(tmp_path), generator, requests)
        assert pixels(image.load() for image in stored) == pixels(generator.generate(requests))


class DiffusionSuite(GeneratorSuite):
    """Tests of a generator with the settings of diffusion: steps, guidance, scheduler, size.

    Attributes:
        schedulers: names that `request` takes.
        odd_width: a width that the model cannot draw.
    """

    settings: ClassVar[Mapping[str, Any]] = {"steps": 3}
    mixtures: ClassVar[Sequence[Mapping[str, Any]]] = tuple(
        {"scheduler": scheduler, "guidance": guidance, "steps": steps}
        for scheduler, steps in (("dpmpp_2m", 3), ("dpmpp_2m_sde", 2), ("ddim", 2))
        for guidance in (1.0, 4.0)
    )
    schedulers: ClassVar[Sequence[str]] = ("dpmpp_2m", "dpmpp_2m_sde", "ddim")
    odd_width: ClassVar[int] = 33

    def test_batch_of_negative_prompts_of_every_length(self, generator: Generator) -> None:
        target = self.asked(generator, guidance=4.0)
        others = [
            self.asked(generator, f"a snare {seed}", seed, guidance=4.0, negative_prompt=text)
            for seed, text in enumerate(["", "blurry", "a much longer negative prompt", "", "text"])
        ]
        assert pixels(generator.generate([*others, target]))[-1] == one(generator, target)

    def test_guidance_and_negative_prompt_change_the_image(self, generator: Generator) -> None:
        images = {
            one(generator, self.asked(generator, guidance=4.0)),
            one(generator, self.asked(generator, guidance=1.0)),
            one(generator, self.asked(generator, guidance=4.0, negative_prompt="text")),
        }
        assert len(images) == 3

    def test_every_scheduler_draws_its_own_image(self, generator: Generator) -> None:
        images = {one(generator, self.asked(generator, scheduler=name)) for name in self.schedulers}
        assert len(images) == len(self.schedulers)

    def test_negative_prompt_is_idle_without_guidance(self, generator: Generator) -> None:
        plain = self.asked(generator, guidance=1.0)
        negative = self.asked(generator, guidance=1.0, negative_prompt="text")
        assert one(generator, plain) == one(generator, negative)

    def test_too_long_prompt_is_refused_with_its_lost_end(self, generator: Generator) -> None:
        prompt = "polyp " * 100
        with pytest.raises(PromptTooLongError, match="polyp polyp") as caught:
            self.asked(generator, prompt)
        kept = prompt[: len(prompt.rstrip()) - len(caught.value.lost)]
        limit = generator.max_tokens
        assert generator.count_tokens(kept) <= limit < generator.count_tokens(f"{kept} polyp")
        with pytest.raises(PromptTooLongError):
            self.asked(generator, "fine", negative_prompt=prompt)

    def test_size_is_respected(self, generator: Generator) -> None:
        native = generator.request("a", 1)
        wide = self.asked(generator, width=2 * native.width, height=native.height)
        (image,) = generator.generate([wide])
        assert image.size == (2 * native.width, native.height)

    def test_odd_size_and_unknown_scheduler_are_refused(self, generator: Generator) -> None:
        with pytest.raises(GeneratorError, match=f"width is {self.odd_width}"):
            generator.request("a", 1, width=self.odd_width)
        with pytest.raises(GeneratorError, match=rf"nosuch.*{self.schedulers[-1]}"):
            generator.request("a", 1, scheduler="nosuch")


def pixels(images: Any) -> list[bytes]:
    """The bytes of RGB images, one string each; anything that is no RGB image fails the test."""
    made = list(images)
    for image in made:
        assert isinstance(image, Image.Image)
        assert image.mode == "RGB"
    return [np.asarray(image).tobytes() for image in made]


def one(generator: Generator, request: ImageRequest) -> bytes:
    """The bytes of the image of one request, made alone."""
    (image,) = pixels(generator.generate([request]))
    return image
