"""The errors of exports."""

from __future__ import annotations


class ExportError(ValueError):
    """Something cannot be exported; the message names run, file or option, and the remedy."""
