"""Results as notebooks show them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from promptopt.base.images import read_image
from promptopt.config.study_file import StudyError

_PROMPTS = 8
_PICTURES = 6
_SIDE = 96  # pixels


def data_frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A pandas.DataFrame. Raises StudyError where pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise StudyError(
            "a data frame needs pandas, which is not installed. pip install pandas, or take `rows`."
        ) from error
    return pandas.DataFrame(rows)


def result_html(
    sentence: str, rows: Sequence[Mapping[str, Any]], pictures: Mapping[str, Sequence[Path]], report: Path
) -> str:
    """The sentence, the first prompts, and some images of each name; one that is gone is left out."""
    shown = list(rows[:_PROMPTS])
    keys = [key for key in (shown[0] if shown else {}) if any(row[key] not in (None, "") for row in shown)]
    head = "".join(f"<th>{html.escape(key)}</th>" for key in keys)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(_cell(row[key]))}</td>' for key in keys)}</tr>" for row in shown
    )
    more = f"<p>and {len(rows) - _PROMPTS} more</p>" if len(rows) > _PROMPTS else ""
    sheets = "".join(
        f"<p>{html.escape(name)}<br>{''.join(map(_thumbnail, paths[:_PICTURES]))}</p>"
        for name, paths in pictures.items()
        if paths
    )
    return (
        f"<p><b>{html.escape(sentence)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        f"</table>{more}{sheets}<p>Report: <code>{html.escape(str(report))}</code></p>"
    )


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def _thumbnail(path: Path) -> str:
    if not path.is_file():
        return ""
    image = read_image(path)
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="" width="{_SIDE}"> '
