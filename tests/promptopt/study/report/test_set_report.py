"""The report of a study of sets: its first screen, its numbers, and what it claims."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.estimate import Estimate
from promptopt.run.prompt_sets import read_sets
from promptopt.space import Candidate
from promptopt.study.report.sets.album import in_script
from promptopt.study.report.sets.atlas import principal
from promptopt.study.report.sets.forest import Row, accuracy_forest, forest, nearer_forest
from promptopt.study.report.sets.gallery import ordered
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
            assert first.count(f'alt="{row}, {label}, image') == 8
    assert "not for diagnosis" in first


def test_the_set_wins_where_the_baseline_seldom_draws_what_is_real(result: SetResult) -> None:
    assert "They are nearer to unseen real images of \u201cred\u201d" in result.sets.sentence
    drawn = nearer_forest(result.sets.of("red"))
    assert drawn is not None
    assert (drawn.lines[0].label, drawn.lines[0].verdict) == ("than baseline prompt", "better")


@pytest.mark.slow
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
    assert len(words_of(page, without=("details", "dialog"))) < 700  # before anything is unfolded
    assert "default-src 'none'" in page
    assert not re.search(r"""<(?:link|img|script|iframe)[^>]+(?:src|href)=["'](?!data:)""", page)


def test_forests_show_the_numbers_of_the_file(result: SetResult) -> None:
    drawn = accuracy_forest(result.sets)
    assert drawn is not None
    alone = result.sets.accuracy["real"].value
    assert alone is not None
    assert drawn.lines[0].label == f"real alone, {100 * alone:.1f}"
    gain = next(one for one in result.sets.comparisons if (one.first, one.second) == ("set", "real"))
    assert float(drawn.lines[0].value) == pytest.approx(100 * (gain.difference.value or 0), abs=0.06)
    assert drawn.lines[0].verdict == gain.verdict
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


def page_data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])  # type: ignore[no-any-return]


def test_the_grid_holds_every_prompt_measured_with_its_images_and_the_baseline_first(
    result: SetResult, page: str
) -> None:
    data = page_data(page)
    for own, entry in zip(data["classes"], result.sets.classes, strict=True):
        assert (own["label"], len(own["prompts"])) == (entry.label, entry.prompts_measured)
        plain, *others = own["prompts"]
        assert (plain["prompt"], plain["status"], plain["score"]) == (entry.baseline, "baseline", 0.0)
        weights = {row["prompt"]: row["weight"] for row in own["prompts"] if row["weight"]}
        assert weights == {one.candidate.label: one.weight for one in entry.set.prompts}
        nearest = max(own["prompts"], key=lambda row: row["score"])
        assert nearest["prompt"] == entry.single.candidate.label
        assert all(len(row["pictures"]) == len(row["values"]) >= 4 for row in own["prompts"])
        assert all(row["slots"] for row in others if row["status"] != "excluded")


def test_each_picture_is_embedded_once_and_the_file_stays_small(result: SetResult, page: str) -> None:
    sources = re.findall(r'<img alt="[^"]*" data-picture="\d+" src="([^"]+)"', page)
    stored = re.search(r'id="pictures">(.*?)</script>', page, re.DOTALL)
    assert stored is not None
    sources += json.loads(stored[1]).values()
    assert len(sources) > 200
    assert len(sources) == len(set(sources))
    assert result.report_path.stat().st_size < 15e6


def test_texts_of_prompts_cannot_end_the_script_or_make_elements(page: str) -> None:
    text = "</script><img src=x onerror=alert(1)>\u2028&"
    written = in_script({"prompt": text})
    assert not set("<>&\u2028") & set(written)
    assert json.loads(written) == {"prompt": text}
    assert "innerHTML" not in page[page.rindex("<script>") :]


def test_the_grid_keeps_the_set_and_both_ends_where_not_all_fits() -> None:
    names = [Candidate(f"prompt {i}") for i in range(9)]
    scores = {name: float(i) for i, name in enumerate(names)}
    found = ordered(
        names, names[4], weights={names[2]: 0.3, names[6]: 0.7}, scores=scores, out={names[1]: "a copy"}
    )
    assert [names.index(one) for one in found] == [4, 6, 2, 1, 8, 0, 7, 3, 5]


def test_the_map_has_the_first_two_principal_components() -> None:
    from sklearn.decomposition import PCA

    rows = np.random.default_rng(0).normal(size=(30, 5)) * [5, 3, 1, 1, 0.1]
    places, shares = principal(rows)
    known = PCA(2).fit(rows)
    assert np.abs(places) == pytest.approx(np.abs(known.transform(rows)))
    assert shares == pytest.approx(known.explained_variance_ratio_)
    same, none = principal(np.ones((3, 4)))
    assert (np.abs(same).max(), none) == (0.0, (0.0, 0.0))


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


@pytest.mark.slow
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
    assert opened.run(alts) == [f"synthetic, {row}, red, image 1" for row in ("baseline", "set")]
    opened.press("ArrowRight", code=39)
    assert opened.run(alts) == [f"synthetic, {row}, red, image 2" for row in ("baseline", "set")]
    assert opened.run("document.documentElement.scrollWidth <= window.innerWidth")
    opened.press("Escape", code=27)
    opened.wait("!document.querySelector('dialog').open", seconds=5)
    assert opened.problems == []


def choose(tab: Browser, name: str, value: str) -> None:
    tab.run(
        f"(s => {{ s.value = {value!r}; s.dispatchEvent(new Event('change')); }})"
        f"(document.getElementById({name!r}))"
    )


def open_grid(tab: Browser) -> None:
    tab.run("document.getElementById('gallery').open = true")
    tab.wait("document.querySelector('#grid .row')", seconds=5)
    for name, value in (("of-class", "0"), ("view", "grid"), ("status", ""), ("sort", "weight")):
        choose(tab, name, value)


_SHOWN_PROMPTS = "Array.from(document.querySelectorAll('#grid .row .prompt'), p => p.textContent)"


def test_the_grid_sorts_and_filters_below_the_baseline(opened: Browser, page: str) -> None:
    open_grid(opened)
    rows = page_data(page)["classes"][0]["prompts"]
    plain, others = rows[0]["prompt"], rows[1:]
    for sort, key in (("score", lambda row: -row["score"]), ("worst", lambda row: row["score"])):
        choose(opened, "sort", sort)
        shown = opened.run(_SHOWN_PROMPTS)
        assert shown[0] == plain
        scores = {row["prompt"]: row["score"] for row in others}
        assert [scores[one] for one in shown[1:]] == [row["score"] for row in sorted(others, key=key)]
    choose(opened, "sort", "weight")
    choose(opened, "status", "set")
    own = sorted((row for row in others if row["status"] == "set"), key=lambda row: -row["weight"])
    assert opened.run(_SHOWN_PROMPTS) == [plain, *(row["prompt"] for row in own)]
    choose(opened, "of-class", "1")
    assert "blue" in opened.run(_SHOWN_PROMPTS)[0]
    assert opened.problems == []


def test_best_images_and_single_words_are_shown_and_enlarged(opened: Browser, page: str) -> None:
    open_grid(opened)
    choose(opened, "view", "ends")
    rows = page_data(page)["classes"][0]["prompts"]
    best = max(value for row in rows for value in row["values"])
    assert opened.run("document.querySelector('#grid .strip img').alt").endswith(f"score {best:+.1f}")
    choose(opened, "view", "words")
    slots = [row["slots"] for row in rows if row["slots"]]
    pairs = [(a, b) for i, a in enumerate(slots) for b in slots[i + 1 :]]
    one_apart = [pair for pair in pairs if sum(x != y for x, y in zip(*pair, strict=True)) == 1]
    named = opened.run("Array.from(document.getElementById('word').options, o => o.textContent)")
    assert sum(int(re.findall(r"\((\d+)\)$", name)[0]) for name in named) == len(one_apart) > 0
    opened.run("document.querySelector('#grid .strip').focus()")
    opened.press("Enter", code=13, text="\r")
    width = "document.querySelector('dialog img').getBoundingClientRect().width"
    before = opened.run(width)
    opened.press("+", code=187, text="+")
    assert opened.run(width) > 1.4 * before
    opened.press("-", code=189, text="-")
    opened.run("document.querySelector('dialog [data-step=\"1\"]').click()")
    assert "seed 2" in opened.run("document.querySelector('dialog figcaption').textContent")
    opened.press("ArrowLeft", code=37)
    opened.press("ArrowDown", code=40)
    first = opened.run("document.querySelector('dialog figcaption').textContent")
    assert first.endswith("seed 1")
    opened.press("Escape", code=27)
    opened.wait("!document.querySelector('dialog').open", seconds=5)
    assert opened.problems == []


def test_notes_are_kept_and_loaded_again(opened: Browser, result: SetResult) -> None:
    open_grid(opened)
    opened.run(
        "(i => { i.value = '<b>soft</b>'; i.dispatchEvent(new Event('input')); })"
        "(document.querySelectorAll('#grid .row input')[1])"
    )
    kept = opened.run("Object.entries(localStorage).find(e => e[0].startsWith('promptopt notes'))[1]")
    assert [one["note"] for one in json.loads(kept)] == ["<b>soft</b>"]
    choose(opened, "status", "notes")
    assert len(opened.run(_SHOWN_PROMPTS)) == 2
    opened.run(
        "new Promise(done => { const all = new DataTransfer(), i = document.getElementById('load-notes');"
        " const note = {class: 'red', prompt: document.querySelectorAll('#grid .row .prompt')[1].textContent,"
        " note: ''};"
        " all.items.add(new File([JSON.stringify({format: 'promptopt-notes', notes: [note]})], 'n.json'));"
        " i.files = all.files; i.dispatchEvent(new Event('change')); setTimeout(done, 300); })"
    )
    assert len(opened.run(_SHOWN_PROMPTS)) == 1
    assert opened.problems == []


def test_the_map_shows_the_images_that_are_drawn_around_and_a_list_without_a_pointer(opened: Browser) -> None:
    opened.run("document.getElementById('atlas').open = true")
    opened.wait("document.querySelector('#map .main-svg')")
    opened.run(
        "document.getElementById('map').emit('plotly_selected', {points: [{customdata: 0}, {customdata: 1}]})"
    )
    assert opened.run("document.querySelectorAll('#picked img').length") == 2
    choose(opened, "pick", "missed")
    alts = opened.run("Array.from(document.querySelectorAll('#picked img'), i => i.alt)")
    assert len(alts) == 24
    assert all(alt.startswith("real, ") for alt in alts)
    assert opened.problems == []


def test_axe_finds_no_fault(opened: Browser) -> None:
    opened.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    opened.wait("document.querySelector('#grid .row')", seconds=5)
    assert opened.axe(without=".main-svg") == []
    opened.run("document.querySelector('#grid .strip').click()")
    opened.run("document.querySelector('#grid .strip img').click()")
    found = opened.axe("'dialog'")
    opened.run("document.querySelector('dialog').close()")
    assert found == []
