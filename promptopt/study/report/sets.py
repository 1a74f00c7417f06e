"""The report of a study of sets: one page, its first screen the sentence and its picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from promptopt.base.files import write_text
from promptopt.study.report.pictures import SMALL, embed_all, embed_file

if TYPE_CHECKING:
    from promptopt.run.prompt_sets import SetList
    from promptopt.study.sets.confirm import Confirmation
    from promptopt.study.sets.opening import SetSetup
    from promptopt.study.sets.search import ClassSearch

_SHOWN = 10  # images of a row


@dataclass(frozen=True, kw_only=True)
class SetReport:
    """All that the page shows."""

    setup: SetSetup
    searches: Mapping[str, ClassSearch]
    confirmation: Confirmation
    sets: SetList


def write_set_report(path: Path, content: SetReport) -> Path:
    """Write one self-contained HTML file: pictures, styles and scripts inside, nothing fetched."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("promptopt.study.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return write_text(path, environment.get_template("sets.html.jinja").render(**_context(content)))


def _context(content: SetReport) -> dict[str, Any]:
    return {
        "sets": content.sets,
        "pixelated": _small(content),
        "phantom": not isinstance(content.setup.config.data, str),
        "rows": {label: _rows(content, label) for label in content.setup.labels},
    }


def _small(content: SetReport) -> bool:
    one = next(iter(content.confirmation.classes.values()))
    request = next(iter(one.images.values()))[0].request
    return max(request.width, request.height) <= SMALL


def _rows(content: SetReport, label: str) -> list[tuple[str, list[str]]]:
    """Real images, then each method's on the same seeds."""
    paths = content.setup.classes[label].positives.where(pool="test").paths()
    stride = max(1, len(paths) // _SHOWN)
    confirmed = content.confirmation.classes[label]
    rows = [("real images", [embed_file(path) for path in paths[::stride][:_SHOWN]])]
    rows += [(name, embed_all(images, _SHOWN)) for name, images in confirmed.images.items()]
    return rows
