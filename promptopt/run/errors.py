"""The errors of exports."""

from __future__ import annotations

from promptopt.base.errors import PromptoptError


class ExportError(PromptoptError, ValueError):
    """Something cannot be exported; the message names run, file or option, and the remedy."""
