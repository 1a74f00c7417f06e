"""The fenced blocks of a Markdown page, and what its hidden comments say of testing them.

A comment before a block, or with `page` before the first one for all blocks of the page::

    <!-- test
    study run: --set search.trials=2     further options of that command, so that it takes seconds
    skip: needs a GPU                    the block is not run; its options are checked all the same
    exit: 1                              the exit code of its last command
    with: postgres                       a fixture that gives environment variables, or skips (block only)
    needs: quickstart                    what is in the folder before (page only)
    -->
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = ("bash", "console", "python")

_COMMENT = re.compile(r"<!--\s*test\b(?P<page> page)?:?(?P<body>.*?)-->", re.DOTALL)
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<more>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)
_TITLE = re.compile(r'title="([^"]+)"')
_INLINE = re.compile(r"`(promptopt [^`\n]+)`")
_WORDS = ("skip", "exit", "with", "needs")


@dataclass(frozen=True)
class Block:
    """A fenced block. `title` names the file that it is, if any; `options` belong to commands by name.

    `uses` are the fixtures whose environment its commands get.
    """

    page: str
    line: int
    language: str
    text: str
    title: str | None = None
    options: Mapping[str, list[str]] = field(default_factory=dict)
    skip: str | None = None
    exit: int = 0
    uses: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For test ids: page and line."""
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[str]:
        """Shell commands, lines that go on joined, comments left out."""
        text = self.text
        if self.language == "console":
            text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield line.strip()


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    name: str
    blocks: tuple[Block, ...]
    needs: tuple[str, ...]
    inline: tuple[str, ...]


def pages() -> list[Page]:
    """README and everything under docs/."""
    files = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    return [read_page(file) for file in files]


def read_page(file: Path) -> Page:
    """Raises ValueError for a comment that says what nobody understands."""
    text, name = file.read_text(encoding="utf-8"), str(file.relative_to(REPOSITORY))
    general: dict[str, list[str]] = {}
    needs: list[str] = []
    comments = list(_COMMENT.finditer(text))
    for comment in comments:
        if comment["page"]:
            words, options = _read(comment["body"], name)
            general |= options
            needs += words.get("needs", "").split()
    blocks = []
    for fence in _FENCE.finditer(text):
        before = [c for c in comments if c.end() <= fence.start() and not c["page"]]
        own = before[-1] if before and not text[before[-1].end() : fence.start()].strip() else None
        words, options = _read(own["body"], name) if own else ({}, {})
        title = _TITLE.search(fence["more"])
        merged = {key: [*general.get(key, ()), *options.get(key, ())] for key in {**general, **options}}
        blocks.append(
            Block(
                page=name,
                line=text.count("\n", 0, fence.start()) + 1,
                language=fence["language"],
                text=re.sub(rf"^{fence['indent']}", "", fence["text"], flags=re.MULTILINE),
                title=title[1] if title else None,
                options=merged,
                skip=words.get("skip"),
                exit=int(words.get("exit", "0")),
                uses=tuple(words.get("with", "").split()),
            )
        )
    return Page(name, tuple(blocks), tuple(needs), tuple(_INLINE.findall(_FENCE.sub("", text))))


def _read(body: str, where: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    words: dict[str, str] = {}
    options: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, body.splitlines())):
        key, colon, value = line.partition(":")
        if not colon or not value.strip():
            raise ValueError(f"{where}: <!-- test: {line!r} needs KEY: VALUE")
        if key in _WORDS:
            words[key] = value.strip()
        else:
            options[key] = shlex.split(value)
    return words, options
