"""The prompt language: counting, weights, names, rendering, errors with their place."""

import itertools
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptopt.space import TemplateError, compile_template, normalize

WILDCARDS = {
    "color": ["red", "pink", "2::pale {yellow|white}"],
    "size": ["small", "__color__ large"],
    "place": ["left", "right"],
}


def rendered(text, wildcards=None):
    space = compile_template(text, wildcards)
    return [space.render(choice) for choice in space.enumerate()]


def test_plain_text_is_one_prompt():
    space = compile_template("a polyp,  on\na fold .")
    assert (space.size, space.slots) == (1, ())
    assert rendered("a polyp,  on\na fold .") == ["a polyp, on a fold."]


def test_every_combination_in_order():
    assert rendered("{one|two} {red|pink} polyp{s|}") == [
        f"{count} {color} polyp{plural}"
        for count, color, plural in itertools.product(["one", "two"], ["red", "pink"], ["s", ""])
    ]


def test_count_of_a_large_space_needs_no_enumeration():
    space = compile_template(" ".join(["{a|b|c {d|e}|}"] * 40))
    assert space.size == 5**40


def test_nested_choices_become_options_of_one_slot_with_multiplied_weights():
    (slot,) = compile_template("{3::flat|1::{2::raised|stalked} and {red|pink}}").slots
    expected = {
        "flat": Fraction(3, 4),
        "raised and red": Fraction(1, 12),
        "raised and pink": Fraction(1, 12),
        "stalked and red": Fraction(1, 24),
        "stalked and pink": Fraction(1, 24),
    }
    assert dict(zip(slot.options, slot.weights, strict=True)) == pytest.approx(
        {name: float(p) for name, p in expected.items()}
    )


def test_equal_options_are_one_option_with_the_sum_of_their_weights():
    (slot,) = compile_template("{a|a|{a|b}}").slots
    assert slot.options == ("a", "b")
    assert slot.weights == pytest.approx((5 / 6, 1 / 6))


def test_wildcards_are_resolved_recursively_with_weights():
    space = compile_template("__size__ polyp", WILDCARDS)
    (slot,) = space.slots
    assert slot.name == "size"
    assert dict(zip(slot.options, slot.weights, strict=True)) == pytest.approx(
        {
            "small": 1 / 2,
            "red large": 1 / 8,
            "pink large": 1 / 8,
            "pale yellow large": 1 / 8,
            "pale white large": 1 / 8,
        }
    )


def test_slot_names_are_stable():
    space = compile_template("{a|b} __color__ {c|__place__} __color__ __place__ __color__", WILDCARDS)
    assert [slot.name for slot in space.slots] == ["slot1", "color", "slot2", "color_2", "place", "color_3"]


def test_slot_names_never_collide():
    wildcards = {"slot1": ["x", "y"], "a": ["p", "q"], "a_2": ["r", "s"]}
    names = [slot.name for slot in compile_template("{1|2} __a__ __a__ __a_2__ __slot1__", wildcards).slots]
    assert names == ["slot2", "a", "a_3", "a_2", "slot1"]


def test_options_lose_spaces_only_where_the_template_has_them():
    first, second = compile_template("a { red | pink } polyp{ , large|}").slots
    assert first.options == ("red", "pink")
    assert second.options == (" , large", "")
    assert rendered("a { red | pink } polyp{ , large|}")[:2] == ["a red polyp, large", "a red polyp"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a  b\t\nc", "a b c"),
        ("polyp , , large ,", "polyp, large"),
        (", polyp", "polyp"),
        ("polyp .", "polyp."),
        ("of .5 cm", "of .5 cm"),
        ("what ? yes !", "what? yes!"),
        ("1,000 folds", "1,000 folds"),
    ],
)
def test_normalize(before, after):
    assert normalize(before) == after


def test_escapes_stand_for_themselves():
    text = r"\{a\|b\} \_\_x\_\_ \$\:\: \\ \(kept\) {c\|d\}|e\::f}"
    assert rendered(text) == [
        r"{a|b} __x__ $:: \ \(kept\) c|d}",
        r"{a|b} __x__ $:: \ \(kept\) e::f",
    ]


def test_single_underscores_and_colons_are_text():
    assert rendered("snake_case: 3:2") == ["snake_case: 3:2"]


def test_the_likeliest_choice_has_the_greatest_weight_and_the_first_among_equals():
    space = compile_template("{a|3::b|c} {d|e}", {})
    assert space.render(space.likeliest()) == "b d"


def test_sampling_follows_the_weights():
    space = compile_template("{9::common|1::rare} {a|b}")
    rng = np.random.default_rng(0)
    drawn = [space.sample(rng)["slot1"] for _ in range(2000)]
    # 2000 draws at 0.1: standard deviation 13.4
    assert 140 < drawn.count("rare") < 260


def test_sampling_repeats_with_its_seed():
    space = compile_template("__size__ __color__ {a|b}", WILDCARDS)
    assert [space.sample(np.random.default_rng(7)) for _ in range(3)] == [
        space.sample(np.random.default_rng(7)) for _ in range(3)
    ]


def test_distinct_gives_each_prompt_once():
    space = compile_template("{a|a }{ b|b}")
    assert space.size == 4
    assert [one.prompt for one in space.distinct(10)] == ["a b", "ab"]
    assert [one.prompt for one in space.distinct(1)] == ["a b"]
    assert space.distinct(0) == {}


def test_render_refuses_what_is_not_in_the_space():
    space = compile_template("__place__ {a|b}", WILDCARDS)
    with pytest.raises(ValueError, match="slot 'place' has no option 'up'"):
        space.render({"place": "up", "slot1": "a"})
    with pytest.raises(ValueError, match="no option chosen for slot 'slot1'"):
        space.render({"place": "left"})
    with pytest.raises(ValueError, match="no slot 'color'"):
        space.render({"place": "left", "slot1": "a", "color": "red"})


BAD = [
    # text, line, column, part of the problem, part of the remedy
    ("a {b|c", 1, 3, "never closed", "missing '}'"),
    ("a {b|{c|d}", 1, 3, "never closed", "missing '}'"),
    ("a\nb {c|\n{d|e", 3, 1, "never closed", "missing '}'"),
    ("a b}", 1, 4, "'}' outside of braces", r"'\}'"),
    ("a|b", 1, 2, "'|' outside of braces", "{a|b}"),
    ("a __color-${t}__", 1, 11, "variable 't' is not set", "${t:default}"),
    ("${t=!{a|b}}__color${t}__ ${t}", 1, 12, "is chosen once ('=!')", "without the '!'"),
    ("{2$$__color{|*}__}", 1, 5, "whose name is itself a choice", "one option at a time"),
    ("__color(a=b)__", 1, 9, "wildcard 'color' uses no variable 'a'", "Take the parameter out"),
    ("__color(a)__", 1, 9, "no list of parameters", "__name(variable=value)__"),
    ("__color(a=(b))__", 1, 11, "no list of parameters", "goes into braces"),
    ("__color(a=b,a=c)__", 1, 13, "variable 'a' is set twice", "once"),
    ("__color(a=b)", 1, 12, "two underscores have to follow", "__name(variable=value)__"),
    ("__color(a=b__ x", 1, 12, "not closed", "lacks its ')'"),
    ("a {red|__color}", 1, 8, "the wildcard that starts here is not closed", "two underscores"),
    ("__@color__", 1, 3, "way of sampling", "Take it out"),
    ("{@0.5::red|pink}", 1, 2, "way of sampling", "Take it out"),
    ("{!1-2$$red|pink}", 1, 2, "way of sampling", "Take it out"),
    ("a %{old ... $$ {red|pink}}", 1, 3, "wraps one text into another", "on both sides"),
    ("x __colr__", 1, 3, "unknown wildcard 'colr'", "Did you mean 'color'? Known wildcards: color,"),
    ("x\n\n  {a|__zzz__}", 3, 6, "unknown wildcard 'zzz'", "Known wildcards: color, none, number"),
    ("__color", 1, 1, "not closed", "__name__"),
    ("{__color|b}__", 1, 2, "not closed", "__name__"),
    ("a ____", 1, 3, "without a name", "__name__"),
    ("{heavy::a|b}", 1, 2, "'heavy' is no weight", "{2::a|1::b}"),
    ("{a| -1::b}", 1, 5, "'-1' is no weight", "positive"),
    ("{0::a|b}", 1, 2, "'0' is no weight", "leave out"),
    ("{::a|b}", 1, 2, "'' is no weight", "positive"),
    ("{a|3$$b|c}", 1, 5, "'$$' without a number", "{2$$a|b|c}"),
    ("{4$$a|b|c}", 1, 2, "asks for 4 options, and there are only 3", "at most 3"),
    ("{0-4$$ and $$a|b|c}", 1, 2, "asks for 4 options", "at most 3"),
    ("{3$$__color__}", 1, 2, "asks for 3 options, and there are only 1", "at most 1"),
    ("{2-1$$a|b}", 1, 2, "2-1 runs backwards", "Write 1-2"),
    ("{-$$a|b}", 1, 2, "without numbers", "{1-2$$a|b|c}"),
    ("{2$$a|{a|a}}", 1, 2, "no 2 different options", "differ"),
    (
        "{20$$" + "|".join("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN") + "}",
        1,
        2,
        "100,000 options",
        "top level",
    ),
    ("{20$$2::" + "|".join("abcdefghijklmnopqrstu") + "}", 1, 2, "100,000 ways", "Leave out the weights"),
    ("{!a|b}", 1, 2, "way of sampling", "Take it out"),
    ("{~a|b}", 1, 2, "way of sampling", "'{ ~'"),
    ("${hue}", 1, 1, "'hue' is not set", "${hue=value}"),
    ("${hue=red} ${hua}", 1, 12, "'hua' is not set", "Did you mean 'hue'?"),
    ("${color}", 1, 1, "'color' is not set", "__color__"),
    ("${a=x}${a=y}", 1, 7, "set twice", "once"),
    ("${a=${b}}\n${b=x ${a}} ${a}", 2, 7, "contains itself: ${a} -> ${b} -> ${a}", "Remove"),
    ("${a=!{${b}|x}} ${b=!{${a}|y}} ${a}", 1, 1, "contains itself: a -> b -> a", "Remove"),
    ("{${a=x}|b}", 1, 2, "'a' is set inside of braces", "top level"),
    ("a ${a={b|c}", 1, 3, "never closed", "missing '}'"),
    ("a ${a={b|c} ", 1, 3, "never closed", "missing '}'"),
    ("a ${a=b|c}", 1, 8, "'|' outside of braces", "{a|b}"),
    ("${a", 1, 1, "'a' that starts here is not closed", "${name:default}"),
    ("${1a}", 1, 1, "'1a' is no name", "letter"),
    ("a ${}", 1, 3, "without a name", "${name=value}"),
    ("{a|b # c}", 1, 1, "never closed", "a literal '#'"),
    ("a /* b", 1, 3, "not closed", "'*/'"),
    ("__co*r__ __x*__", 1, 10, "no wildcard matches 'x*'", "color, none"),
    ("__none__", 1, 1, "has no options", "at least one"),
    ("__text__", 1, 1, "no list of texts", "Give a list"),
    ("__number__", 1, 1, "no list of texts", "quote numbers"),
    ("{" * 41 + "a" + "}" * 41, 1, 41, "nested more than 40", "wildcards"),
    ("{" * 9000 + "a" + "}" * 9000, 1, 41, "nested more than 40", "wildcards"),
    ("{" * 9000, 1, 9000, "never closed", "missing '}'"),
    ("{" + "{1|2|3|4|5|6|7|8|9|10}" * 6 + "}", 1, 1, "100,000 options", "top level"),
]


@pytest.mark.parametrize(("text", "line", "column", "problem", "remedy"), BAD)
def test_errors_say_where_what_and_what_to_do(text, line, column, problem, remedy):
    wildcards = {"color": ["red"], "none": [], "text": "abc", "number": [1, 2]}
    with pytest.raises(TemplateError) as caught:
        compile_template(text, wildcards)
    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert problem in error.problem
    assert remedy in error.remedy
    where, source, caret, *_ = str(error).splitlines()
    assert where.startswith(f"template, line {line}, column {column}: ")
    # the caret stands under the character that the error is about
    assert source[caret.index("^")] == text.splitlines()[line - 1][column - 1]


def test_error_inside_a_wildcard_names_the_option():
    with pytest.raises(TemplateError, match="wildcard 'color', option 2, line 1, column 6: the brace"):
        compile_template("a __color__", {"color": ["red", "pale {pink"]})


def test_recursive_wildcards_are_refused_with_the_loop():
    wildcards = {"a": ["x __b__"], "b": ["y", "{__c__|z}"], "c": ["__a__"]}
    with pytest.raises(TemplateError, match="wildcard 'a' contains itself: a -> b -> c -> a"):
        compile_template("__a__", wildcards)


def test_a_long_chain_of_wildcards_is_refused():
    wildcards = {f"w{i}": [f"__w{i + 1}__"] for i in range(500)}
    with pytest.raises(TemplateError, match="nested more than 40 deep"):
        compile_template("__w0__", wildcards)


# --- properties -------------------------------------------------------------------------------------------

words = st.text("abcde ,.", max_size=6)
weights = st.one_of(st.just(""), st.sampled_from(["1::", "2.5::", " 10 ::", ".5::"]))


def variant(children):
    option = st.builds(lambda weight, parts: weight + "".join(parts), weights, st.lists(children, max_size=2))
    return st.lists(option, min_size=1, max_size=3).map(lambda options: "{" + "|".join(options) + "}")


pieces = st.recursive(words | st.sampled_from(["__color__", "__place__"]), variant, max_leaves=6)
templates = st.lists(pieces, max_size=4).map("".join)


def expand(text):
    """All expansions by rewriting the innermost braces until none are left: no parser, no slots."""
    text = text.replace("__color__", "{red|pink|{pale yellow|pale white}}").replace(
        "__place__", "{left|right}"
    )
    innermost = re.search(r"\{([^{}]*)\}", text)
    if innermost is None:
        return {normalize(text)}
    found = set()
    for option in innermost.group(1).split("|"):
        plain = re.sub(r"^[\s\d.]*::", "", option)
        found |= expand(text[: innermost.start()] + plain + text[innermost.end() :])
    return found


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(templates, st.integers(0, 2**32))
def test_size_enumeration_rendering_and_sampling_agree(text, seed):
    space = compile_template(text, WILDCARDS)
    if space.size > 500:
        return
    choices = list(space.enumerate())
    assert len(choices) == space.size
    assert len({tuple(choice.items()) for choice in choices}) == space.size
    prompts = {space.render(choice) for choice in choices}
    for prompt in prompts:
        assert not re.search(r"[{}|]|__|::", prompt)
        assert not re.search(r"\s\s|\s[,.](?!\d)|^\s|\s$", prompt)
    for slot in space.slots:
        assert sum(slot.weights) == pytest.approx(1)
        assert min(slot.weights) > 0
    assert space.sample(np.random.default_rng(seed)) in choices
    if text.count("{") + text.count("__") // 2 <= 5:
        assert prompts == expand(text)
