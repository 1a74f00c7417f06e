"""A study whose generator and adapters' scale are slots beside the words, and what is made of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import generators.errors
import generators.loading
from generators.family import GeneratorFamily
from generators.request import ImageRequest
from promptopt.augmentation.opening import generator_opener
from promptopt.augmentation.sources import AugmentationError, check_generator, read_run
from promptopt.config.study_file import StudyError, study_from_mapping
from promptopt.export.best import best_list
from promptopt.export.best_tables import to_csv
from promptopt.run.errors import ExportError
from promptopt.run.finished import read_finished
from promptopt.run.images import RunImages
from promptopt.study.run import StudyResult, run_study
from promptopt.transfer.transfer import transfer
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, draw, study, write_squares

SHARP = "squares+lora:sharp"


@dataclass
class Painter(SquareGenerator):
    """Greens everything, unless it has the adapter: the more of that, the redder."""

    def __post_init__(self) -> None:
        self.fingerprint = hashlib.sha256(self.uri.encode()).hexdigest()

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        _, _, scale = self.uri.rpartition("@")
        share = float(scale) if scale != self.uri else float("+lora" in self.uri)
        for request in requests:
            self.made.append(request)
            green = draw(request.prompt.replace("red", "green"), request.seed)
            yield Image.blend(green, draw(request.prompt, request.seed), share)


@pytest.fixture(autouse=True, scope="module")
def painters() -> Iterator[dict[str, Painter]]:
    loaded: dict[str, Painter] = {}

    def load(uri: str, **_: Any) -> Painter:
        name = "/".join(part.rsplit("/", 1)[-1] for part in uri.split("+lora:")).replace("/", "+lora:", 1)
        if "missing" in uri:
            raise generators.errors.GeneratorError("no such folder")
        return loaded.setdefault(name, Painter(uri=name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generators.loading, "load", load)
        yield loaded


def run(folder: Path, **changes: Any) -> StudyResult:
    if not (folder / "data").exists():
        write_squares(folder / "data", each=10)
    content = study(folder, search={"trials": 14, "images": 6}, **changes)
    config = study_from_mapping(content, base=folder)
    return run_study(config, runs=folder / "runs", store=folder / "store", encoder=ColorEncoder())


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    return run(
        tmp_path_factory.mktemp("named"),
        generator={"uri": "squares", "named": {"sharp": SHARP}},
        generation_parameters={"generator": ["main", "sharp"]},
        confirm={"top": 4, "images": 8},
    )


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    return run(
        tmp_path_factory.mktemp("scaled"),
        generator={"uri": "squares+lora:sharp@0.5"},
        generation_parameters={"lora_scale": [0, 1, 2]},
        portfolio={"size": 1},
    )


@pytest.mark.slow
def test_the_better_generator_is_found(named: StudyResult) -> None:
    first = named.prompts.prompts[0]
    assert first.generation_parameters == {"generator": "sharp"}
    assert first.better_than_baseline
    assert first.label.endswith("[generator sharp]")
    assert {name: one.uri for name, one in named.prompts.generators.items()} == {
        "main": "squares",
        "sharp": SHARP,
    }
    effects = (named.folder / "effects.csv").read_text()
    assert "generator,sharp" in effects


@pytest.mark.slow
def test_a_scale_multiplies_that_of_the_address(scaled: StudyResult) -> None:
    first = scaled.prompts.prompts[0]
    assert first.generation_parameters is not None
    assert first.generation_parameters["lora_scale"] > 0
    assert {name: one.uri for name, one in scaled.prompts.generators.items()} == {
        "main": "squares+lora:sharp@0.5",
        "main at 0": "squares+lora:sharp@0.0",
        "main at 1": "squares+lora:sharp@0.5",
        "main at 2": "squares+lora:sharp@1.0",
    }


def test_a_second_run_makes_nothing(named: StudyResult, painters: dict[str, Painter]) -> None:
    before = {name: len(one.made) for name, one in painters.items()}
    written = named.prompts_path.read_bytes()
    named.prompts_path.unlink()
    folder = named.folder.parent.parent
    again = run(
        folder,
        generator={"uri": "squares", "named": {"sharp": SHARP}},
        generation_parameters={"generator": ["main", "sharp"]},
        confirm={"top": 4, "images": 8},
    )
    assert again.prompts_path.read_bytes() == written
    assert {name: len(one.made) for name, one in painters.items()} == before


def test_images_are_found_by_each_prompts_own_generator(named: StudyResult) -> None:
    images = RunImages.open(named.folder, store=named.folder.parent.parent / "store")
    for entry in named.prompts.prompts:
        found = images.find(entry.candidate, stage="confirmation", count=8)
        expected = named.prompts.drawn_with(entry.generation_parameters).fingerprint
        assert [one.request.generator for one in found if one is not None] == [expected] * 8


def test_an_augmentation_set_is_drawn_by_each_prompts_own_generator(named: StudyResult) -> None:
    (source,) = read_run(named.folder)
    generator = generator_opener(device="cpu", batch_size=None)(source)
    assert isinstance(generator, GeneratorFamily)
    assert check_generator(source, generator, allow_other=False) is None
    for prompt in source.prompts:
        request = source.request(generator, prompt, 3)
        network = named.prompts.drawn_with(prompt.candidate.generation_parameters)
        assert (request.generator, source.address_of(request)) == (network.fingerprint, network.uri)
    with pytest.raises(AugmentationError, match=r"--generator squares cannot stand for"):
        read_run(named.folder, generator="squares")


def test_a_submission_needs_one_generator(named: StudyResult, scaled: StudyResult) -> None:
    (one,) = read_finished(scaled.folder)
    assert one.network == scaled.prompts.drawn_with(one.submitted[0].generation_parameters)
    assert one.address.rsplit("@", 1)[1] == one.network.uri.rsplit("@", 1)[1]
    (several,) = read_finished(named.folder)
    if len({json.dumps(entry.generation_parameters) for entry in several.submitted}) > 1:
        with pytest.raises(ExportError, match=r"several generators .*portfolio.size=1"):
            _ = several.network
    table = to_csv(best_list([several]))
    assert SHARP in table


def test_elsewhere_all_prompts_are_drawn_by_the_other_generator(named: StudyResult) -> None:
    other = Painter(uri="squares+lora:sharp@0.9")
    found = transfer(
        named.folder, other, store=named.folder.parent.parent / "store", encoder=ColorEncoder(), images=6
    )
    assert {request.generator for request in other.made} == {other.fingerprint}
    assert found.generator == (other.uri, other.fingerprint)
    assert len(found.rows) == len(named.prompts.prompts) - 1


@pytest.mark.parametrize(
    ("own", "generation_parameters", "words"),
    [
        ({"uri": "squares"}, {"generator": ["sharp"]}, "'sharp' has no address; there are main"),
        ({"uri": "squares"}, {"lora_scale": [1]}, "has no adapter whose scale could be 1"),
        ({"uri": "squares", "named": {"main": SHARP}}, {}, "named: 'main' is the one of generator.uri"),
        ({"uri": "squares", "named": {"a": "missing"}}, {"generator": ["a"]}, "no such folder"),
        ({"uri": "squares"}, {"generator": [2]}, "generator' has 2; give a name"),
        ({"uri": "squares"}, {"size": [2]}, "'size' is nothing that a category can vary"),
    ],
)
def test_what_cannot_be_varied_is_said(
    tmp_path: Path, own: dict[str, Any], generation_parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(StudyError, match=words):
        run(tmp_path, generator=own, generation_parameters=generation_parameters)


def test_a_generator_given_as_an_object_has_no_others_beside_it(tmp_path: Path) -> None:
    write_squares(tmp_path / "data", each=10)
    config = study_from_mapping(
        study(tmp_path, generator={"uri": "x+lora:y"}, generation_parameters={"lora_scale": [1]}),
        base=tmp_path,
    )
    with pytest.raises(
        StudyError, match="generation_parameters: lora_scale cannot be varied with a generator given"
    ):
        run_study(config, runs=tmp_path / "r", store=tmp_path, generator=Painter(), encoder=ColorEncoder())
