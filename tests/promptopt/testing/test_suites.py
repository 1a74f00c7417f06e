"""The conformance suites pass what is sound, and each of their tests fails on what breaks its rule."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation import Estimate
from generators import ImageStore
from generators.fetching import Here
from promptopt import ImageMetric
from promptopt.testing.encoders import EncoderSuite, noise
from promptopt.testing.engines import EngineSuite
from promptopt.testing.generators import GeneratorSuite
from promptopt.testing.metrics import ImageMetricSuite, SetMetricSuite
from promptopt.testing.samplers import SamplerSuite
from tests.promptopt.fakes import SquareGenerator
from tests.promptopt.testing.sound import SoundEncoder, SoundGenerator, sound_metric, sound_proposals

BROKEN = (AssertionError, pytest.fail.Exception)


class TestSoundGenerator(GeneratorSuite):
    @pytest.fixture(scope="class")
    def load(self):
        return SoundGenerator

    @pytest.fixture(scope="class")
    def load_altered(self):
        return lambda: SoundGenerator("2")


class TestSoundEncoder(EncoderSuite):
    @pytest.fixture(scope="class")
    def load(self):
        return SoundEncoder


class TestSoundMetric(SetMetricSuite):
    @pytest.fixture
    def measure(self):
        return sound_metric


class TestSoundImageMetric(ImageMetricSuite):
    @pytest.fixture
    def metric(self):
        return ImageMetric("brightness", lambda images: [np.asarray(image).mean() for image in images])


class TestSoundSampler(SamplerSuite):
    @pytest.fixture
    def propose(self):
        return sound_proposals


class Unlike(SoundGenerator):
    """Every time another image."""

    calls = itertools.count()

    def draw(self, request, place):
        image = super().draw(request, place)
        image.putpixel((0, 0), (next(self.calls) % 256, 0, 0))
        return image


class ByPlace(SoundGenerator):
    def draw(self, request, place):
        image = super().draw(request, place)
        image.putpixel((0, 0), (place, 0, 0))
        return image


class Deaf(SoundGenerator):
    def draw(self, request, place):
        return super().draw(self.request("", request.seed), place)


class Gray(SoundGenerator):
    def draw(self, request, place):
        return super().draw(request, place).convert("L")


class Small(SoundGenerator):
    def draw(self, request, place):
        return super().draw(request, place).resize((4, 4))


class Cuts(SoundGenerator):
    def request(self, prompt, seed, **settings):
        return super().request(" ".join(prompt.split()[: self.max_tokens - 2]), seed, **settings)


class StopsShort(SoundGenerator):
    def draw(self, request, place):
        short = " ".join(request.prompt.split()[:5])
        return super().draw(self.request(short, request.seed), place)


class Nameless(SoundGenerator):
    def __init__(self, weights: str = "1") -> None:
        self.fingerprint = weights


class TakesAll(SoundGenerator):
    def generate(self, requests):
        return (self.draw(request, place) for place, request in enumerate(requests))


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Unlike, "test_same_request_gives_the_same_pixels"),
        (Unlike, "test_loading_again_changes_nothing"),
        (Unlike, "test_equal_requests_give_equal_images"),
        (ByPlace, "test_image_does_not_depend_on_its_batch"),
        (ByPlace, "test_order_and_mixture_do_not_matter"),
        (Deaf, "test_seed_and_prompt_change_the_image"),
        (Gray, "test_same_request_gives_the_same_pixels"),
        (Small, "test_image_has_the_requested_size"),
        (Cuts, "test_too_long_prompt_is_refused_with_both_numbers"),
        (StopsShort, "test_longest_prompt_is_read_to_its_end"),
        (Nameless, "test_is_a_generator"),
    ],
)
def test_broken_generator_fails(broken: type, test: str) -> None:
    arguments: dict[str, Any] = {"generator": broken()}
    if test == "test_loading_again_changes_nothing":
        arguments["load"] = broken
    with pytest.raises(BROKEN):
        getattr(GeneratorSuite(), test)(**arguments)


def test_generator_whose_fingerprint_stays_fails() -> None:
    with pytest.raises(AssertionError):
        GeneratorSuite().test_fingerprint_follows_the_weights(SoundGenerator(), SoundGenerator)
    with pytest.raises(BROKEN):  # another fingerprint, but it draws what was asked of another
        GeneratorSuite().test_fingerprint_follows_the_weights(SoundGenerator(), lambda: TakesAll("2"))


class Doubles(SoundEncoder):
    def encode_images(self, images):
        return super().encode_images(images).astype(np.float64)


class Centered(SoundEncoder):
    """Statistics of the batch in every row, as batch normalization left in training mode has them."""

    def encode_images(self, images):
        rows = super().encode_images(images)
        return rows - rows.mean(axis=0) if len(rows) else rows


class Blind(SoundEncoder):
    def encode_images(self, images):
        return np.ones((len(images), self.dim), dtype=np.float32)


class Shrinks(SoundEncoder):
    def encode_images(self, images):
        for image in images:
            image.thumbnail((8, 8))
        return super().encode_images(images)


class Renamed(SoundEncoder):
    number = itertools.count()

    def __init__(self) -> None:
        self.fingerprint = f"{next(self.number):064x}"


class CutsInSilence(SoundEncoder):
    def encode_texts(self, texts):
        return super().encode_texts([" ".join(text.split()[:6]) for text in texts])


class CountsAfterTheCut(SoundEncoder):
    def count_tokens(self, text):
        return min(super().count_tokens(text), self.context_length)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Doubles, "test_features_are_finite_float32_rows"),
        (Centered, "test_company_and_order_do_not_matter"),
        (Blind, "test_different_images_have_different_features"),
        (Shrinks, "test_images_are_left_as_they_were"),
        (Renamed, "test_says_what_it_is"),
        (CutsInSilence, "test_too_long_text_is_cut_with_a_warning"),
        (CountsAfterTheCut, "test_tokens_are_counted_before_any_cut"),
    ],
)
def test_broken_encoder_fails(broken: type, test: str) -> None:
    with_texts = "text" in test or "tokens" in test
    arguments: dict[str, Any] = {"text_encoder" if with_texts else "encoder": broken()}
    if test == "test_says_what_it_is":
        arguments["load"] = broken
    elif not with_texts:
        arguments["images"] = noise()
    with pytest.raises(BROKEN):
        getattr(EncoderSuite(), test)(**arguments)


def _constant(features: np.ndarray) -> Estimate:
    return Estimate(1.0, None, None, len(features), "constant", "ok")


def _in_place(features: np.ndarray) -> Estimate:
    features *= 2
    return sound_metric(features)


def _first(features: np.ndarray) -> Estimate:
    return Estimate(float(features[0, 0]), None, None, len(features), "the first image", "ok")


def _bare(features: np.ndarray) -> Any:
    return SimpleNamespace(value=float(features.mean()), status="ok", n=len(features))


def _zero_for_none(features: np.ndarray) -> Estimate:
    found = sound_metric(features)
    return found if found.value is not None else Estimate(0.0, None, None, found.n, "mean", "ok")


@pytest.mark.parametrize(
    ("broken", "test", "more"),
    [
        (_bare, "test_gives_an_estimate_that_can_be_stored", {"dtype": np.float64}),
        (_in_place, "test_same_input_gives_the_same_value_and_is_left_alone", {}),
        (_constant, "test_value_follows_the_images", {}),
        (_first, "test_order_of_the_images", {}),
        (_constant, "test_refuses_what_is_not_finite_and_says_where", {"bad": np.nan}),
        (_zero_for_none, "test_few_images", {}),
        (_constant, "test_refuses_a_flat_array", {}),
    ],
)
def test_broken_metric_fails(broken: Any, test: str, more: dict[str, Any]) -> None:
    with pytest.raises(BROKEN):
        getattr(SetMetricSuite(), test)(measure=broken, **more)


def _mean(image: Image.Image) -> float:
    return float(np.asarray(image).mean())


@pytest.mark.parametrize(
    ("function", "test"),
    [
        (lambda images: [1.0] * len(images), "test_value_follows_the_image"),
        (
            lambda images: np.array(list(map(_mean, images))) / len(images),
            "test_company_and_order_do_not_matter",
        ),
        (
            lambda images: [image.thumbnail((8, 8)) or _mean(image) for image in images],
            "test_images_are_left_as_they_were",
        ),
    ],
)
def test_broken_image_metric_fails(function: Any, test: str) -> None:
    images = [image.point(lambda level, k=k: level // (1 + k)) for k, image in enumerate(noise())]
    with pytest.raises(BROKEN):
        getattr(ImageMetricSuite(), test)(metric=ImageMetric("m", function), images=images)


def _outside(*arguments: Any) -> Any:
    return [choice | {"size": "huge"} for choice in sound_proposals(*arguments)]


def _restless(slots: Any, measured: Any, count: int, seed: int) -> Any:
    return sound_proposals(slots, measured, count, int(np.random.default_rng().integers(2**31)))


def _seedless(slots: Any, measured: Any, count: int, seed: int) -> Any:
    return sound_proposals(slots, measured, count, 0)


def _greedy_for_the_worst(slots: Any, measured: Any, count: int, seed: int) -> Any:
    return sound_proposals(slots, [(choice, -number) for choice, number in measured], count, seed)


@pytest.mark.parametrize(
    ("broken", "test", "more"),
    [
        (_outside, "test_every_choice_is_of_the_space", {"earlier": 1}),
        (_restless, "test_is_a_function_of_what_was_measured_and_the_seed", {"earlier": 12}),
        (_seedless, "test_seed_changes_the_draw", {}),
        (_greedy_for_the_worst, "test_finds_better_prompts_than_chance", {}),
    ],
)
def test_broken_sampler_fails(broken: Any, test: str, more: dict[str, Any]) -> None:
    with pytest.raises(BROKEN):
        getattr(SamplerSuite(), test)(propose=broken, **more)


class Loses(Here):
    def make(self, requests, *, ahead):
        for number, made in enumerate(super().make(requests, ahead=ahead)):
            if number != 3:
                yield made


class Recolors(Here):
    def make(self, requests, *, ahead):
        for made in super().make(requests, ahead=ahead):
            picture = made.image.load()
            picture.putpixel((0, 0), (1, 2, 3))
            yield replace(made, image=self.store.put(made.asked, picture))


class MixesUp(Here):
    def make(self, requests, *, ahead):
        made = list(super().make(requests, ahead=ahead))
        for one, other in zip(made, made[::-1], strict=True):
            yield replace(one, image=other.image)


class ReadsAll(Here):
    def make(self, requests, *, ahead):
        return super().make(list(requests), ahead=10**6)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Loses, "test_images_are_the_bytes_that_this_process_makes"),
        (Recolors, "test_images_are_the_bytes_that_this_process_makes"),
        (MixesUp, "test_images_are_the_bytes_that_this_process_makes"),
        (ReadsAll, "test_requests_are_read_as_they_are_needed"),
    ],
)
def test_broken_engine_fails(broken: Any, test: str, tmp_path: Path) -> None:
    generator = SquareGenerator()
    check = getattr(EngineSuite(), test)
    more = {"tmp_path": tmp_path / "alone"} if "bytes" in test else {}
    check(engine=Here(generator, ImageStore(tmp_path / "sound")), generator=generator, **more)
    with pytest.raises(BROKEN):
        check(engine=broken(generator, ImageStore(tmp_path / "broken")), generator=generator, **more)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "fixture"),
    [
        ("generators.GeneratorSuite", "load"),
        ("encoders.EncoderSuite", "load"),
        ("engines.EngineSuite", "open_engine"),
        ("metrics.SetMetricSuite", "measure"),
        ("metrics.ImageMetricSuite", "metric"),
        ("samplers.SamplerSuite", "propose"),
        ("samplers.OptunaSamplerSuite", "make_sampler"),
    ],
)
def test_subclass_without_its_fixture_is_told_which(suite: str, fixture: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    module, name = suite.split(".")
    code = f"from promptopt.testing.{module} import {name}\n\nclass TestMine({name}):\n    pass\n"
    (tmp_path / "test_mine.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "test_mine.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert f"TestMine: override the fixture `{fixture}`" in done.stdout
