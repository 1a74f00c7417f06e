"""Addresses on the hub."""

import pytest

from promptopt.base.errors import PromptoptError
from promptopt.base.hub import HubAddress, HubError, downloading


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:owner/name", HubAddress("owner/name")),
        ("hf:o-1/n.a_me@refs/pr/2", HubAddress("o-1/n.a_me", "refs/pr/2")),
        ("hf:o/n/sub/a.safetensors@v1.0", HubAddress("o/n", "v1.0", "sub/a.safetensors")),
    ],
)
def test_an_address_is_read_and_written_the_same(text: str, expected: HubAddress) -> None:
    assert HubAddress.parse(text, file=True) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "owner/name",
        "hf:name",
        "hf:a/b/c",
        "hf:../name",
        "hf:owner/..",
        "hf:.owner/name",
        "hf:owner/name@../x",
        "hf:owner/name@",
        "hf:owner/na me",
        "hf:owner/n\u00e4me",
        "hf:owner/name\n",
        "hf:owner/name?x=1",
        "hf:o/n/../a.safetensors",
        "hf:o/n/a.bin",
        "hf:o/n//etc/a.safetensors",
        "hf:o/n/.hidden/a.safetensors",
        "hf:o/n@/etc/passwd",
        "hf:o/n@a//b",
        "hf:o\\n/a.safetensors",
        "hf:o/n/sub\\a.safetensors",
        "hf:/o/n",
        "hf:",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(HubError, match="not a hub address; write hf:owner/name"):
        HubAddress.parse(text, file=True)


def test_a_file_only_where_it_is_wanted_and_prefixes_are_kept() -> None:
    with pytest.raises(HubError, match="not a hub address"):
        HubAddress.parse("hf:o/n/a.safetensors")
    assert str(HubAddress.parse("dinov2:o/n@v1", prefix="dinov2:")) == "dinov2:o/n@v1"
    with pytest.raises(HubError, match="write dinov2:owner/name"):
        HubAddress.parse("hf:o/n", prefix="dinov2:")


def test_one_revision_from_either_side() -> None:
    assert HubAddress.parse("hf:o/n", revision="v1").revision == "v1"
    assert HubAddress.parse("hf:o/n@v1", revision="v1").revision == "v1"
    with pytest.raises(HubError, match="two revisions, 'v1' and 'v2'"):
        HubAddress.parse("hf:o/n@v1", revision="v2")


def test_whatever_the_client_raises_is_one_sentence() -> None:
    class OwnError(PromptoptError):
        pass

    said = r"^hf:o/n@v1: is not in the cache and cannot be downloaded \(no route\); .* or give a folder$"
    with (
        pytest.raises(OwnError, match=said),
        downloading(HubAddress("o/n", "v1"), error=OwnError, instead="a folder"),
    ):
        raise ConnectionError("no route\nto host")
