"""The engine: prompt spaces, search, confirmation, portfolio, exports, report, command line.

The names below are the public contract; each is loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation._lazy import lazy_names

if TYPE_CHECKING:
    from promptopt.config import StudyConfig, StudyError
    from promptopt.notebook import Study
    from promptopt.objective import ImageMetric
    from promptopt.portfolio import Portfolio
    from promptopt.study import StudyResult, run_study
    from promptopt.template import PromptSpace, compile_template

__version__ = "0.1.0"

_HOME = {
    "ImageMetric": "promptopt.objective",
    "Portfolio": "promptopt.portfolio",
    "PromptSpace": "promptopt.template",
    "Study": "promptopt.notebook",
    "StudyConfig": "promptopt.config",
    "StudyError": "promptopt.config",
    "StudyResult": "promptopt.study",
    "compile_template": "promptopt.template",
    "run_study": "promptopt.study",
}

__all__ = [
    "ImageMetric",
    "Portfolio",
    "PromptSpace",
    "Study",
    "StudyConfig",
    "StudyError",
    "StudyResult",
    "__version__",
    "compile_template",
    "run_study",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
