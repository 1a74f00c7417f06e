"""ImageRequest: keys and round trips."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import GeneratorError, ImageRequest, PromptTooLongError

BASE = ImageRequest(
    generator="f" * 64,
    prompt="a polyp",
    negative_prompt="",
    seed=1,
    steps=20,
    guidance=7.5,
    scheduler="dpmpp_2m",
    width=64,
    height=64,
    dtype="float32",
    device="cpu",
    versions="torch=2",
)

_names = st.text(min_size=1)
requests = st.builds(
    ImageRequest,
    generator=_names,
    prompt=st.text(),
    negative_prompt=st.text(),
    seed=st.integers(0, 2**63 - 1),
    steps=st.integers(1, 1000),
    guidance=st.floats(0, allow_nan=False, allow_infinity=False),
    scheduler=_names,
    width=st.integers(1, 4096),
    height=st.integers(1, 4096),
    dtype=_names,
    device=_names,
    versions=_names,
)


@given(requests)
def test_json_round_trip_keeps_request_and_key(request_: ImageRequest) -> None:
    again = ImageRequest.from_json(request_.to_json())
    assert again == request_
    assert again.key == request_.key
    assert len(request_.key) == 64


@given(requests, requests)
def test_keys_are_equal_exactly_when_requests_are(one: ImageRequest, other: ImageRequest) -> None:
    assert (one.key == other.key) == (one == other)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ImageRequest)])
def test_every_field_changes_the_key(name: str) -> None:
    value = getattr(BASE, name)
    changed = value + 1 if isinstance(value, (int, float)) else value + "x"
    assert dataclasses.replace(BASE, **{name: changed}).key != BASE.key


def test_key_is_the_same_in_every_release() -> None:
    # A changed canonical form would orphan every stored image.
    assert BASE.key == "2a22b3b73fac1e065e718aab106619c48fd78f5ac32bad6a989f42f66f0c882b"


def test_whole_number_guidance_is_the_same_image() -> None:
    seven = dataclasses.replace(BASE, guidance=7)
    assert seven == dataclasses.replace(BASE, guidance=7.0)
    assert seven.key == dataclasses.replace(BASE, guidance=7.0).key
    assert dataclasses.replace(BASE, guidance=-0.0).key == dataclasses.replace(BASE, guidance=0.0).key


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", 2.0),
        ("width", -64),
        ("height", True),
        ("seed", -1),
        ("seed", 2**63),
        ("guidance", float("nan")),
        ("guidance", float("inf")),
        ("guidance", 10**400),
        ("guidance", -1.0),
        ("guidance", "7"),
        ("generator", ""),
        ("prompt", None),
        ("scheduler", ""),
    ],
)
def test_wrong_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(GeneratorError, match=name):
        dataclasses.replace(BASE, **{name: value})  # type: ignore[arg-type]


def test_from_json_refuses_other_fields_and_other_text() -> None:
    values = json.loads(BASE.to_json())
    with pytest.raises(GeneratorError, match="color"):
        ImageRequest.from_json(json.dumps({**values, "color": 1}))
    del values["seed"]
    with pytest.raises(GeneratorError, match="seed"):
        ImageRequest.from_json(json.dumps(values))
    with pytest.raises(GeneratorError, match="JSON"):
        ImageRequest.from_json("{")
    with pytest.raises(GeneratorError, match="list"):
        ImageRequest.from_json("[]")


def test_too_long_error_survives_a_process_pool() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(PromptTooLongError("a b", count=99, limit=77, lost="b")))
    assert (error.prompt, error.count, error.limit, error.lost) == ("a b", 99, 77, "b")


def test_requests_and_store_need_no_torch() -> None:
    code = (
        "import sys, generators; from generators import *; "
        "heavy = {'torch', 'diffusers', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
