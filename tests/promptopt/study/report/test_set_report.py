"""The report of a study of sets: its first screen, its numbers, and what it claims."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.estimate import Estimate
from promptopt.run.prompt_sets import read_sets
from promptopt.study.report.sets.forest import Row, accuracy_forest, forest, nearer_forest
from promptopt.study.sets.run import SetResult
from tests.browser import Browser, browser
from tests.promptopt.set_run import square_category, square_study

_FOLDED = "document.querySelectorAll('details:not([open])').length"


@pytest.fixture(scope="module")
def result(classified_sets: SetResult) -> SetResult:
    return classified_sets


@pytest.fixture(scope="module")
def page(result: SetResult) -> str:
    return result.report_path.read_text(encoding="utf-8")


def words_of(page: str, *, without: tuple[str, ...]) -> list[str]:
    for tag in ("script", "style", *without):
        page = re.sub(rf"<{tag}[ >].*?</{tag}>", " ", page, flags=re.DOTALL)
    return re.findall(r"[A-Za-z]{2,}", re.sub(r"<[^>]+>", " ", page))


def test_it_begins_with_the_sentence_and_the_images(result: SetResult, page: str) -> None:
    heading = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)
    assert heading is not None
    assert html.unescape(heading[1]) == result.sets.sentence
    first = page[: page.index("red: the set</h2>")]
    for label in ("red", "blue"):
        for row in ("real", "synthetic, baseline", "synthetic, set"):
            assert first.count(f'alt="{row}, {label}, picture') == 8
    assert "not for diagnosis" in first


def test_the_set_wins_where_the_baseline_seldom_draws_what_is_real(result: SetResult) -> None:
    assert "They are nearer to unseen real images of \u201cred\u201d" in result.sets.sentence
    drawn = nearer_forest(result.sets.of("red"))
    assert drawn is not None
    assert (drawn.lines[0].label, drawn.lines[0].verdict) == ("than baseline prompt", "better")


def test_no_win_is_said_where_the_baseline_is_what_is_real(tmp_path: Path, home_data: Path) -> None:
    changes = {"classes": {}, "category": square_category("red"), "positives": "red"}
    result = square_study(tmp_path, home_data, **changes).run()
    assert isinstance(result, SetResult)
    assert result.sets.sentence == (
        "Images of the set were not shown to be nearer to unseen real images of \u201cred\u201d."
    )
    drawn = nearer_forest(result.sets.of("red"))
    assert drawn is not None
    assert (drawn.lines[0].label, drawn.lines[0].verdict) == ("than baseline prompt", "unclear")
    assert accuracy_forest(result.sets) is None  # one class: no classifier


def test_every_prompt_template_and_comparison_is_on_it(result: SetResult, page: str) -> None:
    sets = read_sets(result.prompts_path)
    text = re.sub(r"\s+", " ", page)
    for entry in sets.classes:
        for one in entry.set.prompts:
            assert one.prompt in text
        assert entry.learned is not None
        assert entry.learned.template in text
    rows = len(sets.comparisons) + sum(len(entry.comparisons) for entry in sets.classes)
    table = page[page.index("All comparisons</summary>") : page.index("Metrics of each method</summary>")]
    assert table.count("<tr>") == rows + 1
    assert "AUROC" in page
    assert "Does the set copy training images?" in page
    assert f"promptopt study run study.yaml --name {sets.study}-again" in page


def test_it_is_short_and_fetches_nothing(page: str) -> None:
    assert len(words_of(page, without=("table", "pre"))) < 1200
    assert "default-src 'none'" in page
    assert not re.search(r"""<(?:link|img|script|iframe)[^>]+(?:src|href)=["'](?!data:)""", page)


def test_forests_show_the_numbers_of_the_file(result: SetResult) -> None:
    drawn = accuracy_forest(result.sets)
    assert drawn is not None
    assert drawn.lines[0].label == "real images alone"
    assert drawn.lines[-1].label == "+ set"
    assert float(drawn.lines[-1].value) == pytest.approx(
        100 * (result.sets.accuracy["set"].value or 0), abs=0.06
    )
    entry = result.sets.of("red")
    nearer = nearer_forest(entry)
    assert nearer is not None
    one = next(
        c for c in entry.comparisons if (c.first, c.second, c.metric) == ("set", "baseline", "closeness")
    )
    line = nearer.lines[0]
    assert float(line.value) == pytest.approx(-1000 * (one.difference.value or 0), abs=0.51)
    assert line.verdict == one.verdict


def test_places_on_the_axis_are_linear_and_hold_every_interval() -> None:
    rows = [
        Row("a", Estimate(0.1, -0.2, 0.3, 9, "mean", "ok")),
        Row("b", Estimate(0.5, 0.4, 0.8, 9, "mean", "ok")),
    ]
    drawn = forest(rows, "+.1f")
    a, b = drawn.lines
    assert drawn.zero is not None
    assert a.dot is not None
    assert b.dot is not None
    assert (b.dot - drawn.zero) / (a.dot - drawn.zero) == pytest.approx(5, rel=0.03)
    assert min(a.low, b.low) >= 0
    assert max(line.low + line.width for line in drawn.lines) <= 100
    undefined = forest([Row("c", Estimate(None, None, None, 0, "mean", "undefined"))], ".1f").lines[0]
    assert (undefined.value, undefined.dot) == ("undefined", None)


@pytest.fixture(scope="module", params=[(1280, "light"), (390, "dark")], ids=["desk", "phone, dark"])
def opened(request: pytest.FixtureRequest, result: SetResult) -> Iterator[Browser]:
    width, scheme = request.param
    with browser() as tab:
        tab.prefer(scheme)
        tab.open(result.report_path, width=width, height=800)
        yield tab


def test_in_a_browser_nothing_fails_and_nothing_is_too_wide(opened: Browser) -> None:
    assert opened.run("Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)")
    assert opened.run(_FOLDED) > 5
    assert opened.run("document.documentElement.scrollWidth <= window.innerWidth")
    opened.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    opened.wait(
        "Array.from(document.querySelectorAll('.plotly-graph-div'), p => p.querySelector('.main-svg'))"
        ".every(s => s && s.getBoundingClientRect().width > 200)"
    )
    assert opened.run("document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.problems == []


def test_what_was_shown_is_on_the_first_screen_of_a_desk(result: SetResult) -> None:
    with browser() as tab:
        tab.open(result.report_path, width=1280, height=800)
        assert tab.run("document.querySelector('.first').getBoundingClientRect().bottom <= 800")


def test_folds_and_scrolled_tables_are_reached_by_keyboard(opened: Browser) -> None:
    assert opened.run("Array.from(document.querySelectorAll('.scroll, pre')).every(e => e.tabIndex == 0)")
    opened.run("document.querySelectorAll('details').forEach(d => { d.open = false; })")
    opened.run("document.querySelector('summary').focus()")
    opened.press("Enter", code=13, text="\r")
    opened.wait("document.querySelector('details').open", seconds=5)


def test_a_picture_opens_beside_the_other_methods_at_its_seed(opened: Browser) -> None:
    alts = "Array.from(document.querySelectorAll('dialog[open] img'), i => i.alt)"
    opened.run("document.querySelector('.first .line.set .strip').focus()")
    opened.press("Enter", code=13, text="\r")
    assert opened.run(alts) == [f"synthetic, {row}, red, picture 1" for row in ("baseline", "set")]
    opened.press("ArrowRight", code=39)
    assert opened.run(alts) == [f"synthetic, {row}, red, picture 2" for row in ("baseline", "set")]
    assert opened.run("document.documentElement.scrollWidth <= window.innerWidth")
    opened.press("Escape", code=27)
    opened.wait("!document.querySelector('dialog').open", seconds=5)
    assert opened.problems == []
