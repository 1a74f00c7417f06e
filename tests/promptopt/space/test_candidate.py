"""A candidate is a value: its JSON, its keys, and that no text is ever read back as one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptopt.review.candidates import known_prompts
from promptopt.run.images import RunImages
from promptopt.space import Candidate, compile_template, unique_labels
from promptopt.study.run import run_study, show
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, category, study, write_squares

values = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
candidates = st.builds(
    Candidate, st.text(), st.none() | st.text(), st.dictionaries(st.text(), values, max_size=4)
)
CLASHING = "a polyp\nSettings: soft light"
NEGATIVE = "a polyp\nNegative prompt: x"


@given(candidates)
def test_json_and_back_is_the_identity(one: Candidate) -> None:
    again = Candidate.from_json(json.loads(json.dumps(one.to_json())))
    assert again == one
    assert hash(again) == hash(one)
    assert (again.key, again.normalized_key, again.label) == (one.key, one.normalized_key, one.label)


@given(candidates, candidates)
def test_the_key_is_equal_where_the_content_is(one: Candidate, other: Candidate) -> None:
    assert (one == other) == (one.key == other.key)
    if one == other:
        assert one.normalized_key == other.normalized_key


def test_the_key_is_the_same_in_every_process() -> None:
    made = "Candidate('a polyp', 'x', {'guidance': 2, 'b': 'c'})"
    code = f"from promptopt.space import Candidate; print({made}.key)"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {Candidate("a polyp", "x", {"b": "c", "guidance": 2.0}).key}


@pytest.mark.parametrize(
    "prompt", [CLASHING, NEGATIVE, "one line\n\nand another\n", 'Settings: {"steps": 3}']
)
def test_a_prompt_is_a_prompt_whatever_it_looks_like(prompt: str) -> None:
    one = Candidate(prompt)
    assert Candidate.from_json(one.to_json()) == one
    assert (one.prompt, one.negative_prompt, dict(one.generation_parameters)) == (prompt, None, {})
    assert one.label == prompt


@pytest.mark.parametrize(
    "others",
    [
        ("a polyp", "A  polyp.", "a Polyp", "“a polyp”!", "a\tpolyp\n"),
        ("center-left", "center left", "Center, left"),
        ("STRASSE", "straße"),
    ],
)
def test_case_punctuation_and_spaces_make_no_other_prompt(others: tuple[str, ...]) -> None:
    assert len({Candidate(text).normalized_key for text in others}) == 1
    assert len({Candidate(text).key for text in others}) == len(others)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Candidate("a polyp"), Candidate("apolyp")),
        (Candidate("2.5 mm"), Candidate("25 mm")),
        (Candidate("a"), Candidate("a", "")),
        (Candidate("a", "b"), Candidate("a b")),
        (Candidate("a", None, {"guidance": 2.5}), Candidate("a", None, {"guidance": 2})),
        (Candidate("a", None, {"scheduler": "ddim"}), Candidate("a", None, {"scheduler": "DDIM"})),
    ],
)
def test_what_says_something_else_is_another_candidate(one: Candidate, other: Candidate) -> None:
    assert one.normalized_key != other.normalized_key


def test_labels_that_clash_are_told_apart() -> None:
    one, other = Candidate("a", "b"), Candidate("a [negative: b]")
    labels = unique_labels([one, other, one, Candidate("c")])
    assert one.label == other.label
    assert len(set(labels.values())) == len(labels) == 3
    assert labels[Candidate("c")] == "c"


def run(folder: Path, data: Path, **own: Any) -> Any:
    content = study(folder, data=str(data), **own)
    from promptopt.config.study_file import study_from_mapping

    return run_study(
        study_from_mapping(content, base=folder),
        runs=folder / "runs",
        store=folder / "store",
        generator=SquareGenerator(),
        encoder=ColorEncoder(),
        given=[CLASHING, NEGATIVE],
    )


@pytest.mark.slow
def test_prompts_of_several_lines_go_through_a_whole_study(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data")
    search = {"trials": 4, "images": 5, "sampler": "random", "racing": False}
    words = {**category(), "generation_parameters": {"guidance": [2, 5]}}
    result = run(tmp_path, data, category=words, search=search, confirm={"top": 2, "images": 6})
    by_prompt = {entry.prompt: entry for entry in result.prompts.prompts}
    for text in (CLASHING, NEGATIVE):
        entry = by_prompt[text]
        assert entry.candidate == Candidate(text)
        images = RunImages.open(result.folder, store=tmp_path / "store").present(
            entry.candidate, stage="confirmation"
        )
        assert {(image.request.prompt, image.request.negative_prompt) for image in images} == {(text, "")}
        assert len(images) == 6
    rows = show(result.folder).trials
    assert {row.candidate.generation_parameters["guidance"] for row in rows} <= {2.0, 5.0}
    known = {one.candidate for one in known_prompts(RunImages.open(result.folder, store=tmp_path / "store"))}
    assert known >= {row.candidate for row in rows} | {Candidate(CLASHING), Candidate(NEGATIVE)}
    assert sum(result.weights.values()) == pytest.approx(1)


def test_prompts_that_differ_in_punctuation_count_once(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data")
    words = {
        **category(),
        "template": "{a red square|A red square.|a  red, square|a blue square}",
        "wildcards": {},
        "baseline": "A blue square!",
    }
    space = compile_template(words["template"])
    assert len(space.distinct(10)) == 4
    search = {"trials": 4, "images": 5, "racing": False}
    result = run(tmp_path, data, category=words, search=search, confirm={"top": 3, "images": 6})
    assert result.prompts.prompts_scored == 2
    texts = [entry.prompt for entry in result.prompts.prompts]
    assert sorted(texts) == sorted(["A blue square!", "a red square", CLASHING, NEGATIVE])
