"""What a study costs, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from promptopt.config.study_file import StudyConfig, study_from_mapping
from promptopt.study.beginning import speed_of
from promptopt.study.plan import Part, cost, parts_of
from promptopt.study.preview import most_images, template_sizes
from tests.promptopt.fakes import SquareGenerator


def study(**changes: Any) -> StudyConfig:
    """Two classes with a budget of 100 images, four of a new prompt, two prompts a step."""
    content = {
        "name": "planned",
        "classes": {"polyp": {"category": "polyps"}, "z-line": {"category": "landmarks"}},
        "data": {"phantom": {"images": 150}},
        "set": {"budget": 100, "images": 4},
    }
    return study_from_mapping(content | changes)


def test_a_step_waits_for_its_last_batch_and_short_batches_take_as_long() -> None:
    part = Part(name="search", steps=((3, 20), (1, 4)))
    # 20 images are 3 batches of 8: 3 rounds alone, 2 by two, 1 by four; 4 images are one batch
    assert [part.seconds(workers=n, batch=8, rate=2) for n in (1, 2, 4, 100)] == [40, 28, 16, 16]
    assert part.images == 64


def test_parts_of_a_set_by_hand() -> None:
    """Baseline 8 and 8 prompts x 4 at the start, 7 steps of 8 and one of 4; then 5 methods x 100 images."""
    config = study()
    search, confirmation = parts_of(config, [500, 500])
    assert search.steps == ((1, 40), (7, 8), (1, 4)) * 2
    assert confirmation.steps == ((2, 500),)
    assert search.images + confirmation.images == most_images(config, [500, 500]) == 1200


def test_time_with_one_worker_and_with_four_by_hand() -> None:
    config = study()
    parts = parts_of(config, [500, 500], augmentation=1000)
    one = cost(config, parts, workers=1, batch=8, rate=4)
    # each class: 5 + 7 + 1 batches, then 63; the set: 125; a batch takes 2 s
    assert one.seconds == (52, 252, 250)
    assert one.least == 2200 / 4
    assert one.waiting == ""
    four = cost(config, parts, workers=4, batch=8, rate=4)
    # 2 + 7 + 1 rounds; 16; 32
    assert four.seconds == (40, 64, 64)
    assert four.busy == pytest.approx(2200 / 16 / 168)
    assert "a step of the search has 8 images, 1 batch of 8: 3 of 4 workers wait" in four.waiting
    assert "(search.proposals_per_step: 8 keeps all busy)" in four.waiting  # 8 x 4 = 4 batches of 8
    many = cost(config, parts, workers=32, batch=8, rate=4)
    assert "search.proposals_per_step: 16 keeps 8 busy; larger steps learn too little" in many.waiting
    wide = study(search={"proposals_per_step": 8})
    assert cost(wide, parts_of(wide, [500, 500]), workers=4, batch=8, rate=4).waiting == ""


def test_parts_of_single_prompts_by_hand() -> None:
    """Racing makes a quarter more: 1.25 x (40 + 1) x 8 = 410, the baseline's 8 first; then 6 x 32."""
    config = study(aim="single", category="polyps", classes={}, set={})
    search, confirmation = parts_of(config, [500])
    assert search.steps == ((1, 8), (25, 16), (1, 2))
    assert confirmation.steps == ((1, 192),)
    assert search.images + confirmation.images == most_images(config, [500])


def test_few_prompts_and_small_budgets_have_no_negative_steps() -> None:
    config = study(set={"budget": 16, "images": 4})
    search, _ = parts_of(config, [2, 500])
    assert search.images == 32
    assert all(times > 0 and images > 0 for times, images in search.steps)


def test_sizes_of_templates_need_no_data() -> None:
    assert all(size > 8 for size in template_sizes(study(data="/no/such/folder")))


def test_speed_is_that_of_full_batches_and_the_disk_that_of_stored_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 1.0, 10.0, 12.0])  # the first image takes 1 s, a batch of eight 2 s
    monkeypatch.setattr("promptopt.study.beginning.time.perf_counter", lambda: next(clock))
    speed = speed_of(SquareGenerator(), study(), "red")
    assert speed.seconds == 2 / 8
    assert speed.batch == 8
    assert speed.bytes is not None
    assert 500 < speed.bytes < 5000  # 64x64 of one color, and its request as JSON


def test_where_an_image_takes_very_long_no_more_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 40.0])
    monkeypatch.setattr("promptopt.study.beginning.time.perf_counter", lambda: next(clock))
    generator = SquareGenerator()
    assert speed_of(generator, study(), "red").seconds == 40
    clock = iter([0.0, 40.0])
    generator.batch_size = 4  # type: ignore[attr-defined]
    assert speed_of(generator, study(), "red").seconds == 10  # the one image stood in a batch of four
