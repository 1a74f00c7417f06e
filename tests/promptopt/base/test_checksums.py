"""Checksums of JSON documents: damage shows, another layout does not."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptopt.base.checksums import KEY, summed, without_sum
from promptopt.base.files import FileError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)


def read(path: Path) -> bytes | None:
    return without_sum(path, error=FileError, remedy="Run it again.")


@given(content=st.dictionaries(st.text().filter(lambda key: key != KEY), VALUES, max_size=4))
def test_a_document_is_itself_in_any_layout(
    content: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("sums") / "a.json"
    for layout in ({"indent": 1, "ensure_ascii": True}, {"sort_keys": True}):
        path.write_text(json.dumps(summed(content), **layout))
        found = read(path)
        assert found is not None
        assert json.loads(found) == content


def test_every_changed_digit_shows_and_a_document_without_sum_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    text = json.dumps(summed({"prompt": "a polyp", "weight": 0.25, "images": [1, 2]}))
    for place, character in enumerate(text):
        if character.isdigit():
            path.write_text(text[:place] + str((int(character) + 1) % 10) + text[place + 1 :])
            with pytest.raises(FileError, match=r"a\.json: was damaged, or changed by hand.*Run it again"):
                read(path)
    path.write_text('{"prompt": "a polyp"}')
    assert read(path) == b'{"prompt": "a polyp"}'


@pytest.mark.parametrize("content", [b"", b"[]", b"5", b"\xff", b"[" * 100_000, b"{"])
def test_what_is_no_document_is_left_to_its_reader(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert read(tmp_path / "a.json") is None
    assert read(tmp_path / "none.json") is None
