"""The dashboard and the experts' page in a real browser: what a person sees, presses and gets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from promptopt.review.candidates import candidates
from promptopt.review.page import PreferencePage
from promptopt.review.records import read_choices, records_path
from promptopt.review.session import Session
from promptopt.review.sheet import write_sheet
from promptopt.run.prompts import read_prompts
from promptopt.study.run import show
from promptopt.web.dashboard.serving import open_dashboard
from promptopt.web.server import LocalServer
from tests.browser import Browser, browser
from tests.promptopt.small_run import SmallRun

_LOADED = "Array.from(document.images, i => i.complete && i.naturalWidth > 0)"


@pytest.fixture(scope="module")
def run(shared_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    return shared_run.copied(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.mark.slow
def test_the_dashboard_shows_the_studies_a_prompt_with_its_images_and_the_best_one(
    run: SmallRun, tab: Browser
) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    tab.problems.clear()
    best = read_prompts(run.folder / "prompts.json").prompts[0].label
    row = show(run.folder).trials[1]
    with open_dashboard([run.images]) as server, tab.visiting(server):
        tab.open(f"{server.url}dashboard")
        for stage in ("search", "confirmed on fresh seeds"):
            tab.wait(f"document.body.innerText.includes('red-squares: {stage}')")
        for study, number, prompt in ((1, row.number, row.candidate.prompt), (2, 0, best)):
            tab.open(f"{server.url}dashboard/studies/{study}/trials?numbers={number}")
            tab.wait(f"Array.from(document.querySelectorAll('strong')).some(s => s.innerText == {prompt!r})")
            picture = "Array.from(document.images).find(i => i.src.includes('/artifacts/'))"
            tab.wait(f"{picture} && {picture}.complete")
            assert tab.run(f"{picture}.naturalWidth") > 64  # several images side by side
            assert tab.run("document.body.innerText.includes('Synthetic-to-real accuracy')")
    assert tab.problems == []


@pytest.fixture
def session(run: SmallRun) -> Iterator[Session]:
    records_path(run.folder).unlink(missing_ok=True)
    shown, stage = candidates(run.images, most=3)
    prompts = [prompt.candidate for prompt in shown]
    yield Session(run.images, rater="anna", prompts=prompts, stage=stage, rounds=2, per_set=4, seed=1)
    records_path(run.folder).unlink(missing_ok=True)


@contextmanager
def _asking(tab: Browser, session: Session) -> Iterator[LocalServer]:
    """The page on a server. It asks for nothing but itself and its two sets, not for an icon either."""
    page = PreferencePage(session, question="Which red is redder?")
    asked: set[str] = set()

    def noted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asked.add(environ["PATH_INFO"].removeprefix("/large"))
        return page(environ, start_response)

    with LocalServer(noted) as server, tab.visiting(server):
        yield server
    assert asked <= {"/", "/left.png", "/right.png", "/choose", "/undo"}


def test_an_expert_answers_by_key_and_by_click_and_takes_an_answer_back(
    run: SmallRun, tab: Browser, session: Session
) -> None:
    tab.problems.clear()
    tab.prefer("light")
    pairs = session.schedule
    with _asking(tab, session) as server:
        tab.open(server.url)
        shown = [_pair(tab, 0)]
        tab.press("ArrowLeft", code=37)
        shown.append(_pair(tab, 1))
        _click(tab, "right")
        shown.append(_pair(tab, 2))
        tab.press("ArrowDown", code=40)
        shown.append(_pair(tab, 3))
        assert len(set(shown)) == 4  # another pair each time
        answers = [(c.left, c.right, c.better) for c in read_choices(records_path(run.folder))]
        assert answers == [
            (pairs[0].left, pairs[0].right, pairs[0].left),
            (pairs[1].left, pairs[1].right, pairs[1].right),
            (pairs[2].left, pairs[2].right, None),
        ]
        _click(tab, "undo")
        assert _pair(tab, 2) == shown[2]
        assert len(session.choices) == 2
        for done in range(3, len(pairs) + 1):
            tab.press("ArrowRight", code=39)
            tab.wait(f"document.querySelector('.count')?.innerText.includes('{done} of {len(pairs)}')")
        assert tab.run("document.body.innerText.includes('You may close this page')")
    assert len(read_choices(records_path(run.folder))) >= len(pairs)
    assert tab.problems == []


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 844)])
def test_pictures_and_answers_fit_the_screen(tab: Browser, session: Session, width: int, height: int) -> None:
    with _asking(tab, session) as server:
        tab.open(server.url, width=width, height=height)
        _pair(tab, 0)
        assert tab.run("document.documentElement.scrollWidth <= window.innerWidth")
        sides = tab.run("Array.from(document.images, i => Math.min(i.clientWidth, i.clientHeight))")
        assert min(sides) >= 280
        if width > 700:
            bottom = tab.run("document.getElementById('right').getBoundingClientRect().bottom")
            assert bottom <= height


def test_sets_are_enlarged_and_commented_without_answering(
    run: SmallRun, tab: Browser, session: Session
) -> None:
    tab.problems.clear()
    with _asking(tab, session) as server:
        tab.open(server.url)
        _pair(tab, 0)
        tab.run("document.querySelector('[data-zoom=left]').focus()")
        tab.press("Enter", code=13, text="\r")
        tab.wait("document.querySelector('dialog[open] img')?.naturalWidth > 600")
        tab.press("ArrowRight", code=39)
        tab.wait("document.querySelector('dialog[open] img').src.includes('/large/right.png')")
        tab.press("Escape", code=27)
        tab.wait("!document.querySelector('dialog').open")
        tab.run("document.querySelector('input[name=comment]').focus()")
        tab.call("Input.insertText", text="both <i>blurred</i>")
        tab.press("Enter", code=13, text="\r")
        tab.press("ArrowLeft", code=37)
        assert session.choices == []
        tab.run("document.activeElement.blur()")
        tab.press("ArrowUp", code=38)
        _pair(tab, 1)
    assert [(one.choice, one.comment) for one in session.choices] == [("unusable", "both <i>blurred</i>")]
    assert tab.problems == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_no_fault_in_the_comparison_by_day_and_on_a_phone_by_night(
    tab: Browser, session: Session, width: int, scheme: str
) -> None:
    tab.problems.clear()
    tab.prefer(scheme)
    with _asking(tab, session) as server:
        tab.open(server.url, width=width, height=844)
        _pair(tab, 0)
        assert (_lightness(tab) < 0.2) == (scheme == "dark")
        assert tab.axe() == []
        tab.run("document.querySelector('[data-zoom=left]').click()")
        assert tab.axe("'dialog'") == []
        tab.press("Escape", code=27)
    assert tab.problems == []


@pytest.mark.slow
def test_the_sheet_is_answered_by_keyboard_alone(run: SmallRun, tab: Browser, tmp_path: Path) -> None:
    page = write_sheet(run.images, run.data, tmp_path / "sheet", each=4, seed=7).page
    tab.problems.clear()
    for width, scheme in ((1280, "light"), (390, "dark")):
        tab.prefer(scheme)
        tab.open(page, width=width, height=844)
        assert all(tab.run(_LOADED))
        assert (_lightness(tab) < 0.2) == (scheme == "dark")
        assert tab.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert tab.axe() == []
        tab.press("Tab", code=9)  # to the name
        tab.call("Input.insertText", text="anna")
        tab.press("Tab", code=9)
        for number in range(1, 9):
            tab.press("Tab", code=9)  # to the image, which Enter enlarges
            if number == 1:
                tab.press("Enter", code=13, text="\r")
                tab.press("ArrowRight", code=39)
                assert tab.run("document.querySelector('dialog[open] img').alt") == "Image 2"
                assert tab.axe("'dialog'") == []
                tab.press("Escape", code=27)
                tab.wait("!document.querySelector('dialog').open", seconds=5)
            assert tab.run("document.activeElement.getAttribute('aria-label')") == f"Enlarge image {number}"
            assert tab.run("getComputedStyle(document.activeElement).outlineWidth") == "3px"
            tab.press("Tab", code=9)
            tab.press(" ", code=32, text=" ")
            tab.press("Tab", code=9)  # to the comment
        tab.call("Input.insertText", text="blurred")
        assert tab.run("document.getElementById('state').innerText") == "8 of 8 answered"
        tab.press("Tab", code=9)
        assert tab.run("document.activeElement.id") == "save"
        assert not tab.run("document.activeElement.disabled")
    assert tab.problems == []


def _lightness(tab: Browser) -> float:
    """Of the page behind everything, from 0 to 1."""
    color = tab.run("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", color)[:3])) / 765


def _pair(tab: Browser, done: int) -> tuple[str, ...]:
    """The addresses of the two pictures, once the page after so many answers has them."""
    tab.wait(f"document.querySelector('.count')?.innerText.includes(' {done} of ')")
    tab.wait(f"document.readyState == 'complete' && {_LOADED}.length == 2 && {_LOADED}.every(Boolean)")
    return tuple(tab.run("Array.from(document.images, i => i.src)"))


def _click(tab: Browser, button: str) -> None:
    x, y = tab.run(
        f"(() => {{ const b = document.getElementById('{button}'); b.scrollIntoView({{behavior: 'instant'}});"
        " const r = b.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
