"""The engine: prompt spaces, search, confirmation, portfolio, exports, report, command line.

The names below are the public contract; each is loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptopt.base.lazy import lazy_names
from promptopt.base.shadowing import check_packages

if TYPE_CHECKING:
    from promptopt.config.study_file import StudyConfig, StudyError
    from promptopt.portfolio.fit import Portfolio
    from promptopt.scoring.objective import ImageMetric
    from promptopt.space import PromptSpace, compile_template
    from promptopt.study.api import Study
    from promptopt.study.run import StudyResult, run_study

__version__ = "0.1.0"

check_packages()

_HOME = {
    "ImageMetric": "promptopt.scoring.objective",
    "Portfolio": "promptopt.portfolio.fit",
    "PromptSpace": "promptopt.space",
    "Study": "promptopt.study.api",
    "StudyConfig": "promptopt.config.study_file",
    "StudyError": "promptopt.config.study_file",
    "StudyResult": "promptopt.study.run",
    "compile_template": "promptopt.space",
    "run_study": "promptopt.study.run",
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
