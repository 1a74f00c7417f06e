"""The token guard: what would be lost, found with a tokenizer that counts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import PromptTooLongError
from generators.stable_diffusion.tokens import lost_words
from promptopt.space.token_limit import describe, too_long
from tests.promptopt.fakes import SquareGenerator


def pairs(text):
    """Two letters a token, punctuation a token each, start and end."""
    return 2 + sum(-(-len(word) // 2) for word in re.findall(r"\w+|[^\w\s]", text))


@given(st.text("ab ,", max_size=30), st.integers(2, 20))
def test_lost_words_are_the_shortest_end_that_has_to_go(text, limit):
    lost = lost_words(text, count=pairs, limit=limit)
    if pairs(text) <= limit:
        assert lost == ""
        return
    kept = text.rstrip()[: -len(lost)]
    assert kept + lost == text.rstrip()
    assert pairs(kept) <= limit
    assert pairs(kept + lost.split()[0]) > limit


def test_too_long_prompts_come_longest_first_with_what_would_be_lost():
    model = SquareGenerator(max_tokens=5)  # a token a word, start and end
    found = too_long(["one two three", "one two three four", "a b c  d e f"], model)
    assert [(one.count, one.lost) for one in found] == [(8, "d e f"), (6, "four")]
    assert describe(found) == "  8 tokens: a b c  [lost: d e f]\n  6 tokens: one two three [lost: four]"


def test_a_long_list_is_cut():
    model = SquareGenerator(max_tokens=2)
    assert describe(too_long([f"w{i}" for i in range(9)], model)).endswith("and 4 more")


def test_the_error_of_a_generator_names_the_lost_words():
    error = PromptTooLongError("one two three", count=5, limit=4, lost="three")
    assert error.lost == "three"
    assert "over the limit of 4 and would lose 'three'" in str(error)
    assert PromptTooLongError("x", count=5, limit=4).lost == ""


@pytest.mark.parametrize("name", ["PromptSpace", "compile_template"])
def test_the_package_hands_out_its_public_names(name):
    import promptopt
    import promptopt.space

    assert getattr(promptopt, name) is getattr(promptopt.space, name)
    assert name in dir(promptopt)
    with pytest.raises(AttributeError, match="no attribute 'Prompts'"):
        _ = promptopt.Prompts
