"""The engine: prompt spaces, search, confirmation, exports, report, command line."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptopt.template import PromptSpace, compile_template

__version__ = "0.1.0"

_HOME = {
    "PromptSpace": "promptopt.template",
    "compile_template": "promptopt.template",
}

__all__ = ["PromptSpace", "compile_template"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
