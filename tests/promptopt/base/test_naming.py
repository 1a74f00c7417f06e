"""Names of files and folders, for names in any script."""

import unicodedata

import pytest

from promptopt.base.naming import slug


@pytest.mark.parametrize(
    ("name", "wanted"), [("Polyps", "polyps"), ("Z-line (LA B)", "z-line-la-b"), ("a_b", "a-b"), ("!?", "x")]
)
def test_ascii_names_are_as_before(name: str, wanted: str) -> None:
    assert slug(name) == wanted


def test_names_in_any_script_stay_different_and_stable() -> None:
    names = ["ポリープ", "潰瘍", "полип", "язва", "müller", "muller", "möller", "😀"]
    slugs = [slug(name, keep="_", empty="class") for name in names]
    assert len(set(slugs)) == len(names)
    assert all(one.isascii() and "/" not in one for one in slugs)
    assert slug("müller") == slug(unicodedata.normalize("NFD", "müller"))
    assert slug("müller") == "m-ller-2dbd21"
