"""The engine: prompt spaces, search, confirmation, portfolio, exports, report, command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation._lazy import lazy_names

if TYPE_CHECKING:
    from promptopt.portfolio import Portfolio
    from promptopt.template import PromptSpace, compile_template

__version__ = "0.1.0"

_HOME = {
    "Portfolio": "promptopt.portfolio",
    "PromptSpace": "promptopt.template",
    "compile_template": "promptopt.template",
}

__all__ = ["Portfolio", "PromptSpace", "__version__", "compile_template"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
