"""The built site: every page in its navigation, the reference of Python, a search that works from a disk."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

from tests.browser import browser
from tests.docs.pages import REPOSITORY

MOST_WORDS = 1500
_FIGURE = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]\d)")
PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'promptopt[docs]'")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: pip install 'promptopt[docs]'")
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(target)],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


class _Page(HTMLParser):
    """What a page has: ids, what it links to, what it loads, the sources of its pictures without text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.silent: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values["id"]} if "id" in values else set()
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if tag in ("script", "img") and "src" in values:
            self.loaded.add(values["src"])
        if tag == "link" and values.get("rel") == "stylesheet":
            self.loaded.add(values["href"])
        if tag == "img" and not values.get("alt"):
            self.silent.append(values.get("src", ""))


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[str, _Page]:
    return {
        file.relative_to(site).as_posix(): _Page(file.read_text(encoding="utf-8"))
        for file in site.rglob("*.html")
        if file.name != "404.html"
    }


@pytest.mark.parametrize("file", [REPOSITORY / "README.md", *PAGES], ids=lambda file: file.name)
def test_no_page_is_long(file: Path):
    words = len(file.read_text(encoding="utf-8").split())
    assert words < MOST_WORDS, f"{words} words"


@pytest.mark.slow
def test_every_page_is_in_the_navigation(parsed: dict[str, _Page]):
    wanted = {file.relative_to(REPOSITORY / "docs").with_suffix(".html").as_posix() for file in PAGES}
    assert wanted <= parsed.keys()
    start = parsed["index.html"].links
    assert not {name for name in wanted if name not in start and name != "index.html"}


@pytest.mark.slow
def test_every_exported_name_has_its_place_in_the_reference(parsed: dict[str, _Page], reference: ModuleType):
    for package in reference.PYTHON:
        ids = parsed[f"reference/{package}.html"].ids
        for name in importlib.import_module(package).__all__:
            if not name.startswith("_"):
                value = getattr(importlib.import_module(package), name)
                home = getattr(value, "__module__", None)
                assert {f"{package}.{name}", f"{home}.{name}"} & ids, f"{package}.{name}"
    suites = {one.rpartition(".")[2] for one in parsed["reference/promptopt.testing.html"].ids}
    assert {"GeneratorSuite", "EncoderSuite", "SetMetricSuite", "SamplerSuite", "EngineSuite"} <= suites


@pytest.mark.slow
def test_links_within_the_site_lead_somewhere_and_nothing_is_loaded_from_elsewhere(
    site: Path, parsed: dict[str, _Page]
):
    for name, page in parsed.items():
        assert not page.silent, f"{name}: pictures without a text"
        for address in page.loaded:
            assert not re.match(r"(?:[a-z]+:)?//", address), f"{name} loads {address}"
        for link in page.links:
            path, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            target = (site / name).parent / path if path else site / name
            assert target.exists(), f"{name}: {link}"
            key = target.resolve().relative_to(site.resolve()).as_posix()
            assert not anchor or key not in parsed or anchor in parsed[key].ids | {"__tabbed"}, (
                f"{name}: {link}"
            )


@pytest.mark.slow
def test_the_search_finds_a_page_from_the_disk(site: Path):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert {"sets.html", "reference/promptopt.html"} <= {one["location"] for one in index["docs"]}
    with browser() as tab:
        tab.open(site / "index.html", width=1280)
        query = "document.querySelector('[data-md-component=search-query]')"
        tab.wait("document.querySelector('iframe')")  # where the search runs, instead of a worker
        tab.run(f"{query}.focus()")
        tab.call("Input.insertText", text="certificate")
        tab.wait("document.querySelector('.md-search-result__item')", seconds=90)
        first = tab.run("document.querySelector('.md-search-result__item a').getAttribute('href')")
        assert "sets.html" in first  # before the names of the reference
        assert not tab.problems


@pytest.mark.slow
def test_pages_follow_the_system_into_the_dark_and_axe_finds_no_fault(site: Path):
    pages = ("index", "own-images", "results", "reference/study-file")
    with browser() as tab:
        for scheme, width, shown in (("light", 1280, pages[:1]), ("dark", 1280, pages), ("dark", 390, pages)):
            tab.prefer(scheme)
            for page in shown:
                tab.open(site / f"{page}.html", width=width, height=844)
                own = {"light": "default", "dark": "slate"}[scheme]
                assert tab.run("document.body.dataset.mdColorScheme") == own
                assert tab.run("document.documentElement.scrollWidth <= window.innerWidth")
                tab.wait("document.querySelector('.md-search').ariaLabel")  # our script has run
                assert tab.axe() == [], (page, scheme, width)
        assert not tab.problems


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param(
            "Args:\n    low, high: ends,\n        in pixels.\n    n: how many.",
            "Args:\n    low: ends,\n        in pixels.\n    high: ends,\n        in pixels.\n"
            "    n: how many.",
            id="several arguments",
        ),
        pytest.param("Example:\n    >>> 1", "Examples:\n    >>> 1", id="an example"),
        pytest.param(
            "Text.\n\n>>> 1\n1", "Text.\n\nExamples:\n    >>> 1\n    1", id="an example without a head"
        ),
        pytest.param("As so::\n\n    a", "As so:\n\n    a", id="a literal block"),
    ],
)
def test_docstrings_are_rewritten_for_griffe(docstrings: ModuleType, text: str, shown: str):
    assert docstrings.rewrite(text) == shown


def _texts_of_the_code() -> str:
    """All strings of the packages, a line each; what is filled in is an ellipsis."""
    texts = []
    for package in ("promptopt", "generators", "evaluation", "studies"):
        for file in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                    texts.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return "\n".join(texts)


@pytest.mark.slow
def test_the_messages_under_troubleshooting_are_those_of_the_code():
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE)
    assert len(messages) > 20
    code = _texts_of_the_code()
    for message in messages:
        for part in filter(None, re.split("…|; did you mean", message)):
            assert part in code, message


def test_figures_of_the_readme_stand_in_the_results():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    measured = readme.partition("## What was measured")[2].partition("\n## ")[0]
    files = [REPOSITORY / "docs" / "results.md", *(REPOSITORY / "docs" / "results").glob("*.md")]
    results = "\n".join(file.read_text(encoding="utf-8") for file in files)
    known = set(_FIGURE.findall(results.replace(",", "")))
    figures = _FIGURE.findall(re.sub(r"\]\([^)]*\)", "]", measured).replace(",", ""))
    assert len(figures) > 20
    assert not [figure for figure in figures if figure not in known]


def test_the_comparison_with_others_leaves_no_question_open():
    table = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("## What it has")[2]
    rows = [line for line in table.partition("\n## ")[0].splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert not [row for row in rows if "?" in row or re.search(r"\|\s*\|", row[3:])]
