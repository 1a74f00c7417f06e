"""Prompts that others propose: one by one, each step, or as a list."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptopt.space import Candidate
from promptopt.study.api import Study
from promptopt.study.proposals import Gap
from promptopt.study.sets.run import SetResult
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, write_squares
from tests.promptopt.fakes import category as single_category
from tests.promptopt.fakes import study as single_study
from tests.promptopt.set_run import SHIFTED, square_category, square_study

LITTLE = {"set": {"budget": 56, "images": 4, "prompts": 4, "tolerance": None}}


def narrow(label: str) -> dict[str, object]:
    """A category whose template holds none of the prompts that come near."""
    return {**square_category(label), "template": f"a {{|tiny}} {label} square"}


NARROW = {"classes": {label: {"category": narrow(label)} for label in SHIFTED}}


@pytest.mark.slow
def test_asking_and_telling_is_what_run_does(tmp_path: Path, shifted_data: Path) -> None:
    whole = square_study(tmp_path / "whole", shifted_data, **LITTLE).run()
    with square_study(tmp_path / "asked", shifted_data, **LITTLE) as study:
        steps = 0
        while asked := study.ask():
            study.tell(asked)
            steps += 1
        result = study.run()
    assert steps > 2
    assert isinstance(result, SetResult)
    assert isinstance(whole, SetResult)
    assert result.prompts_path.read_bytes() == whole.prompts_path.read_bytes()


@pytest.mark.slow
def test_prompts_of_ones_own_enter_the_set(tmp_path: Path, shifted_data: Path) -> None:
    with square_study(tmp_path, shifted_data, **LITTLE, **NARROW) as study:
        study.tell(study.ask())
        gap = study.tell(SHIFTED["red"], label="red")["red"]
        assert gap.images == 8 + 4 + 2 * 4  # baseline, the template's other prompt, two of one's own
        assert set(map(str, gap.weights)) & set(SHIFTED["red"])
        again = study.tell(SHIFTED["red"], label="red")["red"]  # measured before: no image
        assert again.images == gap.images
        with pytest.raises(ValueError, match="none of the classes red, blue"):
            study.tell(["a square"])
        with pytest.raises(ValueError, match="limit of 12 tokens"):
            study.tell(["a " * 30 + "square"], label="red")
        with pytest.raises(ValueError, match=r"raise set\.budget"):
            study.tell([f"a red square {n}" for n in range(20)], label="red")
        result = study.run()
    assert isinstance(result, SetResult)
    prompts = [p.prompt for p in result.sets.of("red").set.prompts]
    assert set(prompts) & set(SHIFTED["red"])


@pytest.mark.slow
def test_a_proposer_is_asked_each_step_and_its_prompts_are_raced(tmp_path: Path, shifted_data: Path) -> None:
    seen: list[Gap] = []

    def propose(label: str, gap: Gap) -> list[Candidate | str]:
        seen.append(gap)
        assert gap.label == label
        assert sum(gap.weights.values()) == pytest.approx(1)
        assert gap.best(1)[0] in gap.leads
        ground = "white" if label == "red" else "black"
        return [f"{gap.best(1)[0].prompt} on {ground}", f"a big {label} square on {ground}"]

    result = square_study(tmp_path, shifted_data, **LITTLE, **NARROW).run(propose=propose)
    assert isinstance(result, SetResult)
    assert {gap.label for gap in seen} == {"red", "blue"}
    for entry in result.sets.classes:
        ground = "white" if entry.label == "red" else "black"
        assert any(p.prompt.endswith(f"on {ground}") for p in entry.set.prompts)
        assert entry.images_in_search <= 56
    calls = len(seen)
    again = square_study(tmp_path, shifted_data, **LITTLE, **NARROW).run(propose=propose)
    assert again.prompts_path.read_bytes() == result.prompts_path.read_bytes()
    assert again.nothing_new
    assert len(seen) - calls <= 2  # the steps are on record; only whether the search goes on is asked


def test_scores_say_what_a_prompt_would_add(tmp_path: Path, shifted_data: Path) -> None:
    with square_study(tmp_path, shifted_data, **LITTLE, **NARROW) as study:
        with pytest.raises(ValueError, match="nothing was measured yet"):
            study.score(["a red square"], label="red")
        asked = study.ask()
        before = study.tell(asked)["red"]
        good, bad = study.score([SHIFTED["red"][0], "a tiny green square on black"], label="red", images=8)
        assert good.score.value is not None
        assert bad.score.value is not None
        assert good.score.value > 0 > bad.score.value
        near, far = (one.estimates["closeness"].value for one in (good, bad))
        assert near is not None
        assert far is not None
        assert near < far
        # an image that was entered has the same lead whether scored or told
        own = next(iter(before.weights))
        (scored,) = study.score([own], label="red", images=before_images(asked, own))
        assert scored.score.value == pytest.approx(before.leads[own], abs=1e-5)
        after = study.tell([own], label="red")["red"]
        assert (after.images, after.leads) == (before.images, before.leads)  # nothing was entered


def before_images(asked: list, own: Candidate) -> int:
    return int(next(one.images for one in asked if one.candidate == own))


def test_a_study_of_single_prompts_scores_prompts_too(tmp_path: Path) -> None:
    write_squares(tmp_path / "data")
    study = Study(
        single_study(tmp_path), generator=SquareGenerator(), encoder=ColorEncoder(),
        runs=tmp_path / "runs", store=tmp_path / "store",
    )  # fmt: skip
    good, bad = study.score(["a big red square on black", "a tiny green square on white"])
    assert good.score.low is not None
    assert bad.score.high is not None
    assert good.score.low > bad.score.high
    assert good.images == 8
    with pytest.raises(ValueError, match="ask and tell are of aim: set"):
        study.ask()
    assert single_category()["baseline"] == "a square"


@pytest.mark.slow
def test_a_list_of_prompts_is_the_space(tmp_path: Path, shifted_data: Path) -> None:
    lists = {
        "red": "a big red square on white\nA big red square, on white.\n\n"
        "a {tiny|red} thing\na small red square on white\n",
        "blue": 'prompt,weight\n"a big blue square on black",1\n"a tiny blue square",1\n',
    }
    (tmp_path / "red.txt").write_text(lists["red"])
    (tmp_path / "blue.csv").write_text(lists["blue"])
    classes = {
        "red": {"category": square_category("red"), "prompts": str(tmp_path / "red.txt")},
        "blue": {
            "category": square_category("blue"),
            "prompts": str(tmp_path / "blue.csv"),
            "baseline": "a small blue square",
        },
    }
    result = square_study(tmp_path, shifted_data, **LITTLE, classes=classes).run()
    assert isinstance(result, SetResult)
    red, blue = result.sets.of("red"), result.sets.of("blue")
    assert red.prompts_in_space == 3  # two lines are one prompt
    assert blue.baseline == "a small blue square"
    assert {p.prompt for p in red.set.prompts} & set(SHIFTED["red"])
    # the run's own study file holds the prompts, and goes on without the lists
    (tmp_path / "red.txt").unlink()
    (tmp_path / "blue.csv").unlink()
    again = Study(
        result.folder / "study.yaml", generator=SquareGenerator(), encoder=ColorEncoder(),
        runs=tmp_path / "runs", store=tmp_path / "store",
    ).run()  # fmt: skip
    assert again.nothing_new
    missing = {**classes, "red": {**classes["red"], "prompts": str(tmp_path / "none.txt")}}
    with pytest.raises(ValueError, match=r"prompts: .*none\.txt"):
        square_study(tmp_path / "other", shifted_data, **LITTLE, classes=missing).run()
