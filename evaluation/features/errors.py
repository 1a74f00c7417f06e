"""The error of stores of features."""

from __future__ import annotations

from promptopt.base.errors import PromptoptError


class FeatureStoreError(PromptoptError, ValueError):
    """The store or an image file cannot be used; the message names it and the remedy."""
