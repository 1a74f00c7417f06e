"""The engine: prompt spaces, search, confirmation, portfolio, exports, report, command line.

The names below are the public contract; each is loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptopt.base.lazy import lazy_names
from promptopt.base.shadowing import check_packages

if TYPE_CHECKING:
    from promptopt.cli._live import LiveStudy
    from promptopt.config.study_file import StudyConfig, StudyError
    from promptopt.portfolio.fit import Portfolio
    from promptopt.run.prompt_sets import LearnedTemplate, PromptSet
    from promptopt.scoring.objective import ImageMetric
    from promptopt.space import Candidate, PromptSpace, compile_template
    from promptopt.study.api import Study
    from promptopt.study.observer import Observer, Observers
    from promptopt.study.proposals import Gap
    from promptopt.study.run import StudyResult, run_study
    from promptopt.study.sets.run import SetResult
    from promptopt.study.tracking import Tracking

__version__ = "0.1.0"

check_packages()

_HOME = {
    "Candidate": "promptopt.space",
    "Gap": "promptopt.study.proposals",
    "ImageMetric": "promptopt.scoring.objective",
    "LearnedTemplate": "promptopt.run.prompt_sets",
    "LiveStudy": "promptopt.cli._live",
    "Observer": "promptopt.study.observer",
    "Observers": "promptopt.study.observer",
    "Portfolio": "promptopt.portfolio.fit",
    "PromptSet": "promptopt.run.prompt_sets",
    "PromptSpace": "promptopt.space",
    "SetResult": "promptopt.study.sets.run",
    "Study": "promptopt.study.api",
    "StudyConfig": "promptopt.config.study_file",
    "StudyError": "promptopt.config.study_file",
    "StudyResult": "promptopt.study.run",
    "Tracking": "promptopt.study.tracking",
    "compile_template": "promptopt.space",
    "run_study": "promptopt.study.run",
}

__all__ = [
    "Candidate",
    "Gap",
    "ImageMetric",
    "LearnedTemplate",
    "LiveStudy",
    "Observer",
    "Observers",
    "Portfolio",
    "PromptSet",
    "PromptSpace",
    "SetResult",
    "Study",
    "StudyConfig",
    "StudyError",
    "StudyResult",
    "Tracking",
    "__version__",
    "compile_template",
    "run_study",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
