"""A set whose images others make, in another order, and look at: the same bytes as one made here."""

from __future__ import annotations

import itertools
import random
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import promptopt.augmentation.pictures as pictures
import promptopt.augmentation.run as run_module
from evaluation.encoders.load import load_encoder
from evaluation.encoders.thumbnail import ThumbnailEncoder
from generators.family import MAIN
from generators.fetching import make_missing
from generators.store import ImageStore
from promptopt.augmentation.filters import FILTERS, looks
from promptopt.augmentation.opening import generator_opener
from promptopt.augmentation.pictures import open_looks
from promptopt.augmentation.results import AugmentationSet
from promptopt.augmentation.run import augment
from tests.promptopt.augmentation.planted import WildGenerator, content, planted
from tests.promptopt.augmentation.test_augment import make
from tests.promptopt.fakes import RednessJudge


class ScatteredGenerator(WildGenerator):
    """The same images by others, who make so many at a time and give them in an order of their own."""

    width = 16
    root = Path()
    encoders: tuple[str, ...] = ()

    def scratch_engine(self) -> Any:
        return self

    def make(self, requests: Any, *, ahead: int, on_bad: Any) -> Any:
        store, rest = ImageStore(self.root), iter(requests)
        look = open_looks(self.encoders, "cpu")
        while part := list(itertools.islice(rest, min(self.width, ahead))):
            random.Random(len(self.made)).shuffle(part)
            for made in make_missing(WildGenerator(), part, get=store.get, put=store.put, on_bad=on_bad):
                rows = look([made.image.path])
                yield replace(made, features={address: row[0] for address, row in rows.items()})


@pytest.mark.parametrize("width", [1, 50])
def test_the_set_does_not_depend_on_who_makes_its_images(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "CHUNK", 8)
    make(tmp_path, tmp_path / "here")
    others = ScatteredGenerator()
    others.width, others.root = width, tmp_path / "scratch"
    make(tmp_path, tmp_path / "elsewhere", generator=others)
    assert content(tmp_path / "elsewhere") == content(tmp_path / "here")
    assert not [path for path in others.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["imagefolder", "webdataset"])
def test_features_that_come_with_the_images_give_the_same_set_and_nothing_is_decoded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, reference = planted(tmp_path)
    reference = replace(reference, encoder=ThumbnailEncoder(), address="thumbnail")
    settings: dict[str, Any] = {
        "counts": {"red": 20, "other": 12}, "reference": reference, "filters": FILTERS, "format": kind
    }  # fmt: skip
    augment(sources, tmp_path / "here", open_generator=lambda _: WildGenerator(), **settings)
    others = ScatteredGenerator()
    others.root = tmp_path / "scratch"
    networks, plain = looks(sources, FILTERS, reference)
    others.encoders = (*networks, *plain)

    def decode(*_: Any, **__: Any) -> Any:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(pictures, "read_image", decode)
    augment(sources, tmp_path / "elsewhere", open_generator=lambda _: others, **settings)
    assert content(tmp_path / "elsewhere") == content(tmp_path / "here")


def test_what_filters_read_is_asked_for_where_images_are_made(tmp_path: Path) -> None:
    sources, reference = planted(tmp_path)
    reference = replace(reference, address="hf:owner/encoder")
    assert looks(sources, FILTERS, reference) == (["hf:owner/encoder"], ["extremes", "thumbnail"])
    assert looks(sources, ["black"], reference) == ([], ["extremes"])
    assert looks(sources, [], reference) == ([], [])
    judged = replace(reference, judge=RednessJudge())
    assert looks(sources, ["judge", "duplicates"], judged) == ([], ["thumbnail"])
    unknown = replace(reference, judge=RednessJudge(names={"category": ("red",)}))  # of the other class
    assert looks(sources, ["judge"], unknown) == (["hf:owner/encoder"], [])


def make_at(folder: Path, on: str) -> AugmentationSet:
    sources, reference = planted(folder)
    reference = replace(reference, encoder=load_encoder("embedded", device="cpu"), address="embedded")
    sources = [
        replace(
            one,
            generators={(MAIN, None): "embedded"},
            sampling=replace(one.sampling, steps=1, guidance=1.0, scheduler=None),
        )
        for one in sources
    ]
    with ExitStack() as open_things:
        return augment(
            sources,
            folder / on.partition("?")[0],
            counts={"red": 12, "other": 8},
            reference=reference,
            filters=FILTERS,
            attempts=2,
            allow_other_generator=True,
            open_generator=generator_opener(
                device="cpu",
                batch_size=3,
                on=on,
                store=folder,
                open_things=open_things,
                encoders=looks(sources, FILTERS, reference),
            ),
        )


@pytest.mark.slow
@pytest.mark.parametrize("place", ["processes:2", "ray?workers=2"], indirect=True)
def test_a_set_has_the_same_bytes_wherever_its_images_are_made(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_at(tmp_path, "here")
    assert whole.images > 0
    assert sum(sum(one.removed.values()) for one in whole.classes) > 0

    def decode(*_: Any, **__: Any) -> Any:
        raise AssertionError("an image was decoded by who drives")

    monkeypatch.setattr(pictures, "read_image", decode)
    made = make_at(tmp_path, place)
    assert made.classes == whole.classes
    assert content(made.folder) == content(whole.folder)
