"""The MEDVQA-GI challenge: its caption grammar, and its files made into a prepared data set."""

from typing import TYPE_CHECKING, Any

from studies.medvqa_gi.attributes import Attributes, CaptionError
from studies.medvqa_gi.captions import ParsedCaption, parse_caption, render_caption
from studies.medvqa_gi.report import PrepareReport

if TYPE_CHECKING:
    from studies.medvqa_gi.prepare import prepare_2024

__all__ = [
    "Attributes",
    "CaptionError",
    "ParsedCaption",
    "PrepareReport",
    "parse_caption",
    "prepare_2024",
    "render_caption",
]


def __getattr__(name: str) -> Any:
    # The preparation needs numpy and Pillow; whoever only reads captions does not.
    if name == "prepare_2024":
        from studies.medvqa_gi.prepare import prepare_2024

        return prepare_2024
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
