"""The MEDVQA-GI challenge: its caption grammar, and its files made into a prepared data set."""

from studies.medvqa_gi.attributes import Attributes, CaptionError
from studies.medvqa_gi.captions import ParsedCaption, parse_caption, render_caption

__all__ = [
    "Attributes",
    "CaptionError",
    "ParsedCaption",
    "parse_caption",
    "render_caption",
]
