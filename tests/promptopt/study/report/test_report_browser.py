"""The report in a real browser: errors, pictures, plots that react, keyboard, contrast, phone, print."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from tests.browser import Browser, browser
from tests.promptopt.small_run import SmallRun

_PLOTTED = "document.querySelectorAll('.plotly-graph-div .main-svg').length > 0"


@pytest.fixture(scope="module")
def report(shared_run: SmallRun) -> Path:
    return shared_run.folder / "report.html"


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module", params=[(1400, "light"), (390, "dark")], ids=["desk", "phone, dark"])
def opened(request: pytest.FixtureRequest, tab: Browser, report: Path) -> Browser:
    """The page on a desk by day and on a phone by night, loaded once for all tests."""
    width, scheme = request.param
    tab.problems.clear()
    tab.prefer(scheme)
    tab.open(report, width=width)
    tab.wait(_PLOTTED)
    return tab


def test_it_loads_without_an_error_and_shows_every_picture_and_plot(opened: Browser) -> None:
    loaded = opened.run("Array.from(document.images, i => i.complete && i.naturalWidth > 0)")
    assert len(loaded) > 20
    assert all(loaded)
    empty = opened.run(
        "Array.from(document.querySelectorAll('.plotly-graph-div'))"
        ".filter(p => !p._fullData || !p._fullData.length).map(p => p.id)"
    )
    assert empty == []
    assert opened.run("document.querySelectorAll('.plotly-graph-div').length") >= 4
    assert opened.problems == []


def test_nothing_is_wider_than_the_screen(opened: Browser) -> None:
    opened.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert opened.run("document.documentElement.scrollWidth <= window.innerWidth")
    opened.wait(
        "Array.from(document.querySelectorAll('.scroll'), t => t.classList.contains('wide'))"
        ".every((told, i) => told == (t => t.scrollWidth > t.clientWidth + 1)"
        "(document.querySelectorAll('.scroll')[i]))"
    )
    assert opened.run("document.querySelectorAll('.scroll.wide').length > 0") == (
        opened.run("window.innerWidth") < 600
    )


def test_the_words_of_the_plots_stand_out_from_the_page_and_their_marks_too(opened: Browser) -> None:
    back = opened.run("getComputedStyle(document.body).backgroundColor")
    texts = opened.run(
        "Array.from(new Set(Array.from(document.querySelectorAll('.plotly-graph-div .main-svg text'),"
        " t => getComputedStyle(t).fill)))"
    )
    assert texts
    assert min(_contrast(color, back) for color in texts) > 4.5  # WCAG 2.2, 1.4.3
    marks = opened.run(
        "Array.from(new Set(Array.from(document.querySelectorAll('.scatterlayer .point'),"
        " p => getComputedStyle(p).stroke == 'none' ? getComputedStyle(p).fill : getComputedStyle(p).stroke)"
        ".filter(c => c.startsWith('rgb('))))"
    )
    assert marks
    assert min(_contrast(color, back) for color in marks) > 3  # 1.4.11


def _contrast(first: str, second: str) -> float:
    """WCAG's contrast of two colors `rgb(...)`."""

    def light(color: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dim, bright = sorted([light(first), light(second)])
    return (bright + 0.05) / (dim + 0.05)


def test_axe_finds_no_fault(opened: Browser) -> None:
    package = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    opened.call(
        "Runtime.evaluate",
        expression=(resources.files(package) / "axe.min.js").read_text(encoding="utf-8"),
    )
    opened.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found = opened.run(
        "axe.run(document).then(r => ({passes: r.passes.map(p => p.id), "
        "faults: r.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 200))])}))"
    )
    assert found["faults"] == []
    assert {"color-contrast", "image-alt", "aria-allowed-attr"} <= set(found["passes"])


def test_pointing_at_a_prompt_shows_its_words(opened: Browser) -> None:
    opened.run("document.getElementById('history').scrollIntoView({block: 'center', behavior: 'instant'})")
    place = opened.run(
        "(() => { const p = document.querySelector('#history .scatterlayer .point').getBoundingClientRect();"
        " return [p.x + p.width / 2, p.y + p.height / 2]; })()"
    )
    assert opened.run("document.querySelector('#history .hoverlayer').textContent") == ""
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    opened.wait("document.querySelector('#history .hoverlayer').textContent.includes('square')")
    assert opened.problems == []


def test_the_terms_on_the_axes_are_chosen_by_keyboard(opened: Browser) -> None:
    title = "document.querySelector('#tradeoffs .xtitle').textContent"
    assert opened.run(title).startswith("alignment")
    before = opened.run("Array.from(document.getElementById('tradeoffs').data[2].y)")
    opened.run("document.getElementById('tradeoff-terms').focus()")
    opened.press("ArrowDown", code=40)
    opened.press("ArrowDown", code=40)
    opened.wait(f"{title}.startsWith('utility')")
    opened.wait("document.querySelector('#tradeoffs .ytitle').textContent.startsWith('closeness')")
    assert opened.run("Array.from(document.getElementById('tradeoffs').data[2].y)") != before
    assert opened.problems == []


def test_tab_reaches_every_section_table_and_detail_in_the_order_of_the_page(opened: Browser) -> None:
    opened.run("document.querySelectorAll('details').forEach(d => { d.open = false; })")
    opened.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    opened.run(
        "window.stops = Array.from(document.querySelectorAll(\"a, summary, [tabindex='0'], select\"))"
        ".filter(e => e.checkVisibility()); document.querySelector('h1').tabIndex = -1;"
        " document.querySelector('h1').focus(); true"
    )
    wanted = opened.run("window.stops.length")
    assert wanted > 15
    reached = []
    for _ in range(wanted):
        opened.press("Tab", code=9)
        reached.append(opened.run("window.stops.indexOf(document.activeElement)"))
    assert reached == list(range(wanted))


def test_enter_opens_a_table(opened: Browser) -> None:
    opened.run("document.querySelector('#terms details').open = false")
    opened.run("document.querySelector('#terms summary').focus()")
    opened.press("Enter", code=13, text="\r")
    opened.wait("document.querySelector('#terms details').open")


def test_it_prints_with_its_tables_open_and_ends_as_it_was(opened: Browser) -> None:
    opened.run("document.querySelector('#terms details').open = false")
    plots = (
        "Array.from(document.querySelectorAll('.plotly-graph-div'),"
        " p => [p.parentElement.offsetHeight, p.layout.height])"
    )
    before = opened.run(plots)
    opened.run(
        "window.opened = []; window.addEventListener('beforeprint', () => {"
        " window.opened = Array.from(document.querySelectorAll('#terms details'), d => d.open); })"
    )
    content = opened.call("Page.printToPDF", printBackground=True)["data"]
    assert base64.b64decode(content).startswith(b"%PDF-")
    assert opened.run("window.opened") == [True]
    assert opened.run(plots) == before
    assert opened.run("Array.from(document.querySelectorAll('#terms details'), d => d.open)") == [False]
    assert opened.problems == []
