"""Several options at a time, variables, globs, comments, and the articles of what is rendered."""

import itertools
import pickle
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptopt.space import TemplateError, compile_template, normalize

WILDCARDS = {
    "color/warm": ["red", "2::orange"],
    "color/cold": ["blue"],
    "size": ["small", "large"],
    "thing": ["polyp", "${size_of:tiny} fold"],
}


def rendered(text, wildcards=WILDCARDS):
    space = compile_template(text, wildcards)
    prompts = [space.render(choice) for choice in space.enumerate()]
    assert len(prompts) == space.size
    return prompts


def weights_of(text, wildcards=WILDCARDS):
    (slot,) = compile_template(text, wildcards).slots
    return dict(zip(slot.options, slot.weights, strict=True))


# --- several at a time ------------------------------------------------------------------------------------


def test_two_of_three_come_in_the_order_written():
    assert rendered("{2$$a|b|c} x") == ["a, b x", "a, c x", "b, c x"]


def test_a_range_with_a_separator():
    assert rendered("{0-2$$ and $$a|b|c}") == ["", "a", "b", "c", "a and b", "a and c", "b and c"]


def test_open_ranges_and_a_bar_as_separator():
    assert rendered("{-2$$a|b}") == ["a", "b", "a, b"]
    assert rendered("{2-$$/$$a|b|c}") == ["a/b", "a/c", "b/c", "a/b/c"]
    assert rendered("{2$$|$$a|b}") == ["a|b"]
    assert rendered("{0$$a|b}x") == ["x"]


def test_equal_texts_are_not_said_twice_and_empty_ones_leave_no_separator():
    assert rendered("{2$$ and $$a|{a|b}|}") == ["a and b", "a", "b"]


def test_several_of_a_wildcard():
    assert rendered("{2$$ or $$__color/*__}") == ["red or orange", "red or blue", "orange or blue"]


def test_nested_several():
    assert rendered("{1-2$$, $$x {2$$ $$p|q}|y}") == ["x p q", "y", "x p q, y"]


def by_simulation(weights, low, high):
    """Exact probabilities of the sets, from all orders in which the options can be drawn."""
    found = Counter()
    for k in range(low, high + 1):
        for order in itertools.permutations(range(len(weights)), k):
            p, left = Fraction(1, high - low + 1), Fraction(sum(weights))
            for i in order:
                p, left = p * weights[i] / left, left - weights[i]
            found[" ".join("abcdef"[i] for i in sorted(order))] += p
    return {text: float(p) for text, p in found.items()}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data())
def test_weights_are_those_of_drawing_without_putting_back(weights, data):
    low = data.draw(st.integers(0, len(weights)))
    high = data.draw(st.integers(low, len(weights)))
    options = "|".join(f"{w}::{'abcdef'[i]}" for i, w in enumerate(weights))
    found = weights_of(f"{{{low}-{high}$$ $${options}}}")
    assert found == pytest.approx(by_simulation(weights, low, high), abs=1e-12)
    assert sum(found.values()) == pytest.approx(1)


def test_a_choice_of_almost_all_of_many_options():
    (slot,) = compile_template("{25$$" + "|".join("abcdefghijklmnopqrstuvwxyz") + "}").slots
    assert len(slot.options) == 26
    assert slot.weights == pytest.approx((1 / 26,) * 26)


# --- variables --------------------------------------------------------------------------------------------


def test_a_deferred_variable_is_chosen_anew_at_every_use():
    space = compile_template("${c={red|2::pink}} a ${c} polyp, ${c} rim")
    assert [slot.name for slot in space.slots] == ["c", "c_2"]
    assert space.size == 4
    assert space.slots[0].weights == pytest.approx((1 / 3, 2 / 3))


def test_an_immediate_variable_is_one_choice_everywhere():
    space = compile_template("${c=!{red|2::pink}} a ${c} polyp{, with a ${c} rim|}, ${c} fold")
    assert [(slot.name, slot.options) for slot in space.slots] == [
        ("c", ("red", "pink")),
        ("slot1", (", with a ${c} rim", "")),
    ]
    assert [space.render(choice) for choice in space.enumerate()] == [
        "a red polyp, with a red rim, red fold",
        "a red polyp, red fold",
        "a pink polyp, with a pink rim, pink fold",
        "a pink polyp, pink fold",
    ]
    assert space.slots[0].weights == pytest.approx((1 / 3, 2 / 3))
    assert pickle.loads(pickle.dumps(space)) == space


def test_an_immediate_variable_within_one_slot_is_flattened_into_it():
    assert weights_of("${c=!{a|3::b}}{x ${c} ${c}|y}") == pytest.approx(
        {"x a a": 1 / 8, "x b b": 3 / 8, "y": 1 / 2}
    )


def test_immediate_variables_of_one_another():
    assert rendered("${b=!${a} {1|2}} ${a=!{x|y}} ${b}, ${b}; ${a}") == [
        "x 1, x 1; x",
        "x 2, x 2; x",
        "y 1, y 1; y",
        "y 2, y 2; y",
    ]
    assert rendered("${b=!${a} 1} ${a=!{x|y}} ${b} ${b}") == ["x 1 x 1", "y 1 y 1"]


def test_variables_reach_into_wildcards_and_defaults_stand_in():
    assert rendered("a __thing__") == ["a polyp", "a tiny fold"]
    assert rendered("${size_of=big} a __thing__") == ["a polyp", "a big fold"]
    assert rendered("${size_of={big|huge}}__thing__ {${size_of}|x}") == [
        f"{thing} {end}" for thing in ("polyp", "big fold", "huge fold") for end in ("big", "huge", "x")
    ]
    assert rendered("${n:{one|two}} polyp") == ["one polyp", "two polyp"]


def test_a_plain_variable_is_text_and_no_slot():
    space = compile_template("${organ = colon } an image of the ${organ}")
    assert (space.slots, space.render({})) == ((), "an image of the colon")


def test_a_variable_set_in_a_wildcard_holds_there_alone():
    wildcards = {"w": ["${v=in} ${v}", "${v?=in} ${v}"]}
    assert rendered("${v=out} __w__ ${v}", wildcards) == ["in out", "out out"]


def test_fixed_variables_in_a_wildcard_are_refused():
    with pytest.raises(
        TemplateError, match="wildcard 'w', option 1, line 1, column 3: variable 'v' is fixed"
    ):
        compile_template("__w__", {"w": ["x ${v=!{a|b}} ${v}"]})


def test_an_error_in_a_value_points_into_the_template():
    with pytest.raises(TemplateError) as caught:
        compile_template("${v={a|__colr__}}\n${v}", {"color": ["red"]})
    assert (caught.value.line, caught.value.column) == (1, 8)


# --- wildcards with parameters, and names that are put together --------------------------------------------

TOYS = {
    "toy": ["a ${animal} toy", "3::a ${size:small} ${animal}"],
    "tone/warm": ["red", "2::orange"],
    "tone/cold": ["blue"],
}


def test_a_parameter_is_a_variable_within_the_wildcard_alone():
    assert rendered("__toy(animal=fox)__", TOYS) == ["a fox toy", "a small fox"]
    assert rendered("${animal=cat} __toy(animal = fox , size={big|huge})__, ${animal}", TOYS) == [
        "a fox toy, cat",
        "a big fox, cat",
        "a huge fox, cat",
    ]
    assert rendered("__toy(animal=fox)__, __toy(animal=owl)__", TOYS)[1] == "a fox toy, a small owl"
    assert rendered("${s=old}__toy(animal={one, two}, size=${s} __tone/cold__)__", TOYS) == [
        "a one, two toy",
        "an old blue one, two",
    ]
    assert weights_of("__toy(animal={fox|cat})__", TOYS) == pytest.approx(
        {"a fox toy": 1 / 8, "a cat toy": 1 / 8, "a small fox": 3 / 8, "a small cat": 3 / 8}
    )
    assert rendered("{2$$ or $$__toy(animal=fox)__}", TOYS) == ["a fox toy or a small fox"]


def test_a_wildcard_may_be_named_by_variables_and_braces():
    for text in ("${t={3::warm|cold}} __tone/${t}__", "__tone/{3::warm|cold}__"):
        assert weights_of(text, TOYS) == pytest.approx({"red": 1 / 4, "orange": 1 / 2, "blue": 1 / 4})
    assert rendered("${t=cold}a __tone/${t}__ rim, __to${x:ne}/${t}__", TOYS) == ["a blue rim, blue"]
    assert rendered("${t=!cold}__tone/${t}__ ${t}", TOYS) == ["blue cold"]
    assert rendered("{2$$/$$__tone/${t:warm}__}", TOYS) == ["red/orange"]
    assert rendered("__tone/${t:*}__", TOYS) == ["red", "orange", "blue"]
    assert [slot.name for slot in compile_template("__tone/${t:cold}__ __toy(animal=fox)__", TOYS).slots] == [
        "tone/t",
        "toy",
    ]


# --- globs, comments, escapes -----------------------------------------------------------------------------


def test_a_glob_takes_the_options_of_all_that_match():
    space = compile_template("__color/*__ __color/*__ __siz?__", WILDCARDS)
    assert [slot.name for slot in space.slots] == ["color", "color_2", "siz"]
    assert space.slots[0].options == ("red", "orange", "blue")
    assert space.slots[0].weights == pytest.approx((1 / 4, 1 / 2, 1 / 4))


def test_comments_are_not_words():
    text = "# a polyp\na {red # or so\n|# the rare one\n 3::pink /* | blue\n */} polyp // end\n"
    space = compile_template(text)
    assert [space.render(choice) for choice in space.enumerate()] == ["a red polyp", "a pink polyp"]
    assert space.slots[0].weights == pytest.approx((1 / 4, 3 / 4))
    assert rendered(r"image \#1 and/or http://x \/* y") == ["image #1 and/or http://x /* y"]


def test_an_error_behind_a_comment_has_its_own_place():
    with pytest.raises(TemplateError) as caught:
        compile_template("/* {\n */ a } b # }")
    assert (caught.value.line, caught.value.column) == (2, 7)


# --- rendering --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a orange polyp", "an orange polyp"),
        ("an small polyp", "a small polyp"),
        ("A ulcer. A  eye", "An ulcer. An eye"),
        ("a unit, an uniform, a uterus", "a unit, a uniform, a uterus"),
        ("a unimportant, a unusual, a upper", "an unimportant, an unusual, an upper"),
        ("an European, an one, an hour", "a European, a one, an hour"),
        ("vitamin A and B, type a or b", "vitamin A and B, type a or b"),
        ("a MRI, an MRI, an X-ray, a 8 mm polyp", "a MRI, an MRI, an X-ray, a 8 mm polyp"),
        ("group A ulcer, non-a example", "group A ulcer, non-a example"),
    ],
)
def test_articles_fit_the_word_that_follows(before, after):
    assert normalize(before) == after
    assert normalize(after) == after


def test_articles_fit_whatever_is_chosen():
    assert rendered("a {orange|} {|ulcerated} polyp") == [
        "an orange polyp",
        "an orange ulcerated polyp",
        "a polyp",
        "an ulcerated polyp",
    ]


def test_the_longest_choice_is_the_longest_prompt_when_words_add_up():
    space = compile_template("${c=!{a|b b b}} {x ${c}|u v w} {|q} ${c} {2$$r|s t|u}")
    longest = space.render(space.longest(lambda text: len(text.split())))
    assert len(longest.split()) == max(len(space.render(choice).split()) for choice in space.enumerate())


# --- a law: samples follow the weights, whatever the template ---------------------------------------------

names = st.sampled_from(["p", "q"])
word = st.sampled_from(["k", "m n", "", "r s"])


def braces(children):
    option = st.builds(lambda w, parts: w + " ".join(parts), st.sampled_from(["", "2::", ".5::"]), children)
    options = st.lists(option, min_size=1, max_size=3)
    head = st.sampled_from(["", "0-1$$ $$", "1$$", "-1$$ and $$"])
    return st.builds(lambda h, found: ["{" + h + "|".join(found) + "}"], head, options)


parts = st.recursive(
    st.lists(word | names.map("${{{}}}".format) | st.just("__size__"), max_size=2), braces, max_leaves=5
)
programs = st.builds(
    lambda ps, bangs, values: (
        "".join(f"${{{n}={b}{' '.join(v)}}}" for n, b, v in zip("pq", bangs, values, strict=True))
        + " ".join(" ".join(p) for p in ps)
    ),
    st.lists(parts, max_size=3),
    st.tuples(st.sampled_from(["", "!"]), st.sampled_from(["", "!"])),
    st.tuples(
        st.recursive(st.lists(word, max_size=2), braces, max_leaves=3),
        st.recursive(st.lists(word | st.just("${p}"), max_size=2), braces, max_leaves=3),
    ),
)


@settings(max_examples=80, deadline=None)
@given(programs, st.integers(0, 2**32))
def test_any_program_compiles_to_a_proper_product(text, seed):
    space = compile_template(text, WILDCARDS)
    assert len({slot.name for slot in space.slots}) == len(space.slots)
    for slot in space.slots:
        assert len(set(slot.options)) == len(slot.options)
        assert sum(slot.weights) == pytest.approx(1)
        assert min(slot.weights) > 0
    if space.size > 500:
        return
    choices = list(space.enumerate())
    assert len({tuple(choice.items()) for choice in choices}) == len(choices) == space.size
    assert all(not set("${}|_\0") & set(space.render(choice)) for choice in choices)
    assert space.sample(np.random.default_rng(seed)) in choices
