"""A maker that is not what its spec says does not take part, and says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from generators import GeneratorError, ImageStore, StoreError, load
from generators.making.maker import Maker, failure
from generators.making.spec import MakerSpec

GENERATOR = load("embedded", device="cpu", batch_size=2)


@pytest.fixture
def spec(tmp_path: Path) -> MakerSpec:
    return MakerSpec(
        generators=(("embedded", GENERATOR.fingerprint),),
        device="cpu",
        batch_size=2,
        versions=GENERATOR.request("", 0).versions,
        store=str(tmp_path),
    )


def test_spec_travels_as_text(spec: MakerSpec) -> None:
    full = replace(spec, encoders=("thumbnail",), features="module:function", compile="off", chunk=3)
    assert MakerSpec.from_json(full.to_json()) == full


def test_every_image_is_said_with_its_checksum(spec: MakerSpec, tmp_path: Path) -> None:
    requests = [GENERATOR.request("a polyp", seed, steps=1) for seed in range(3)]
    said: list[dict[str, Any]] = []
    maker = Maker(spec)
    maker.make(requests, said.append)
    stored = [ImageStore(tmp_path).get(request) for request in requests]
    assert all(image is not None for image in stored)
    assert {one["image"]: one["sha256"] for one in said} == {i.request.key: i.sha256 for i in stored if i}
    said.clear()
    maker.make(requests[:1], said.append)
    assert [one["new"] for one in said] == [False]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"generators": (("embedded", "0" * 64),)}, "embedded: has other weights here"),
        ({"versions": "torch=1.0;batch=2"}, r"torch .* here, 1\.0 asked for.*Install the same versions"),
        ({"versions": "torch=2.9;gpu=NVIDIA H100"}, "has a CPU alone.*asked of a NVIDIA H100.*gpu=H100"),
        ({"store": "/no/such/folder"}, "/no/such/folder: there is no such folder here"),
    ],
)
def test_what_differs_is_named(spec: MakerSpec, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(GeneratorError, match=said):
        Maker(replace(spec, **changes))


def test_memory_that_runs_out_names_the_smaller_batch(
    spec: MakerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = Maker(spec)

    def out_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("generators.stable_diffusion.diffusion.DiffusionGenerator._run", out_of_memory)
    with pytest.raises(GeneratorError, match=r"memory ran out at 2 images a pass.*ask for 1"):
        maker.make([GENERATOR.request("a polyp", 1, steps=1)], print)


def test_failures_say_whether_another_maker_may_do_better() -> None:
    assert failure(StoreError("full")) == {"failed": "full", "error": "StoreError"}
    assert failure(GeneratorError("no"))["error"] == "GeneratorError"
    assert failure(RuntimeError("ECC")) == {"failed": "RuntimeError: ECC", "error": ""}
