"""Against the `dynamicprompts` package, on what the two languages share.

Known differences, kept out of the comparison: that library gives several options in every order (ours: in the
order written), takes only the first option of an immediate variable, reads weights of
wildcard options in text files alone, drops white space where an option begins
and reads comments other than `#` only where a token begins.
"""

import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from promptopt.space import compile_template, normalize

generators = pytest.importorskip(
    "dynamicprompts.generators", reason="the oracle, dynamicprompts, is not installed (extra: dev)"
)
wildcards_module = pytest.importorskip("dynamicprompts.wildcards")

WILDCARDS = {
    "color/warm": ["red", "orange", "pale {yellow|gold}"],
    "color/cold": ["blue"],
    "size": ["small", "__amount__ large"],
    "amount": ["very", "rather"],
    "told": ["${teller:nobody} says", "silence"],
}
LIMIT = 400


@pytest.fixture(scope="module")
def oracle():
    manager = wildcards_module.WildcardManager(root_map={"": [WILDCARDS]})
    return generators.CombinatorialPromptGenerator(manager)


def theirs(oracle, text):
    return [str(prompt) for prompt in oracle.generate(text, LIMIT)]


def ours(text):
    space = compile_template(text, WILDCARDS)
    return [space.render(choice) for choice in space.enumerate()]


@pytest.mark.parametrize(
    "text",
    [
        "a polyp",
        "{a|b} {c|d|e}",
        "{2::a|b|0.5::c} d",
        "{a|{b|c {d|e}}|} f",
        "a polyp{s|}, {|large}",
        "{}",
        "[{a|b}] (c:1.{2|3})",
        "a __color/warm__ {polyp|__size__ fold}",
        "__color/*__",
        "__*__ x",
        "a __colo?/w*__",
        "${c={red|blue}} a ${c} polyp, ${c} rim",
        "${c=red}a ${c} polyp ${d:{x|y}}",
        "${c} ${c=x}",
        "${a={x|y}}${b=${a} z}${b} ${b}",
        "${teller={he|she}} __told__ ${teller}",
        "${c?=x}${c}",
        "__told(teller=she)__, __told__",
        "a __told(teller={he|she})__ x",
        "${k=warm}a __color/${k}__ polyp",
        "a __color/${k:cold}__ __si${z:z}e__",
        "# a comment\na {b # another\n|c} d # end",
        "/* block */ {a|b} // line",
        "{0-0$$a|b}",
        "{1$$a|b}",
        "{1$$__size__}",
    ],
)
def test_the_same_prompts(oracle, text):
    mine, reference = ours(text), theirs(oracle, text)
    assert set(mine) == {normalize(prompt) for prompt in reference}
    assert len(mine) == len(reference)


def sorted_words(prompt):
    return tuple(sorted(re.findall(r"\w+", prompt)))


@pytest.mark.parametrize(
    "text",
    [
        "{2$$a|b|c}",
        "{2$$a|b|c} x {1-2$$ or $$d|e}",
        "{0-2$$ and $$a|b|c}",
        "{-2$$a|b|c}",
        "{1-$$a|b|c}",
        "{2-3$$|$$a|b|c|d}",
        "{2$$ $$a|2::b|c}",
        "{2$$ and $$a|{b|c}|d e}",
        "{2$$__color/*__}",
        "{2$$x|__color/warm__|y}",
        "{1-2$$ - $$p {2$$ $$q|r|s}|t}",
    ],
)
def test_the_same_sets_where_several_are_taken(oracle, text):
    mine, reference = ours(text), theirs(oracle, text)
    assert {normalize(p).replace(", ", ",") for p in mine} <= {normalize(p) for p in reference}
    assert {sorted_words(p) for p in mine} == {sorted_words(p) for p in reference}
    assert len(mine) == len({sorted_words(p) for p in mine})  # each set once


# --- generated templates ----------------------------------------------------------------------------------

word = st.sampled_from(["k", "lm", "n o", "x,", "(y)"])
atom = word | st.sampled_from(["__size__", "__amount__", "__color/*__", "${v}", "${w:z {i|j}}"])


def options(children, weight):
    option = st.builds(
        lambda w, found: w + " ".join(found), weight, st.lists(children, min_size=1, max_size=2)
    )
    return st.lists(option, min_size=1, max_size=3)


def variant(children):
    weight = st.sampled_from(["", "", "2::", "0.5::"])
    return st.builds(lambda found: "{" + "|".join(found) + "}", options(children, weight))


tree = st.recursive(atom, variant, max_leaves=6)
assignments = st.builds("${{v={}}}".format, st.recursive(word, variant, max_leaves=3))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(assignments, st.lists(tree, min_size=1, max_size=3))
@example("${v={k|lm}}", ["{${v}|__size__}", "${v}"])
def test_generated_templates_span_the_same_prompts(oracle, assignment, pieces):
    text = assignment + " " + " ".join(pieces)
    space = compile_template(text, WILDCARDS)
    assume(space.size < LIMIT)
    reference = theirs(oracle, text)
    assume(len(reference) < LIMIT)
    mine = [space.render(choice) for choice in space.enumerate()]
    assert set(mine) == {normalize(prompt) for prompt in reference}


letters = st.sampled_from("abcdefghijklm")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(letters, min_size=1, max_size=5, unique=True),
    st.lists(st.lists(st.sampled_from("nopqrstuvwxyz"), min_size=1, max_size=3, unique=True), max_size=1),
    st.sampled_from(["", " and $$", " $$", " / $$"]),
    st.data(),
)
def test_generated_choices_of_several_are_the_same_sets(oracle, plain, nested, separator, data):
    found = plain + ["{" + "|".join(inner) + "}" for inner in nested]
    low = data.draw(st.integers(0, min(3, len(found))))
    high = data.draw(st.integers(low, min(3, len(found))))
    mine = ours(text := f"{{{low}-{high}$${separator}{'|'.join(found)}}}")
    reference = theirs(oracle, text)
    assume(len(reference) < LIMIT)
    assert {sorted_words(p) for p in mine} == {sorted_words(p) for p in reference}
    assert len(mine) == len({sorted_words(p) for p in mine})
