"""Experts' opinions: which prompt's images are better, and whether images can be told from real ones."""

from promptopt.review.agreement import cohen_kappa, fleiss_kappa, preference_kappa, rank_correlation
from promptopt.review.candidates import KnownPrompt, candidates, known_prompts
from promptopt.review.page import PreferencePage
from promptopt.review.preference_model import Comparison, PreferenceModel
from promptopt.review.preferences import (
    PreferenceMetric,
    Preferences,
    PromptPreference,
    preference_values,
    write_preferences,
)
from promptopt.review.records import Choice, ReviewError, read_choices, records_path
from promptopt.review.session import Pair, Session
from promptopt.review.sheet import Sheet, write_sheet
from promptopt.review.sheet_scores import RaterScore, SheetScores, score_answers

__all__ = [
    "Choice",
    "Comparison",
    "KnownPrompt",
    "Pair",
    "PreferenceMetric",
    "PreferenceModel",
    "PreferencePage",
    "Preferences",
    "PromptPreference",
    "RaterScore",
    "ReviewError",
    "Session",
    "Sheet",
    "SheetScores",
    "candidates",
    "cohen_kappa",
    "fleiss_kappa",
    "known_prompts",
    "preference_kappa",
    "preference_values",
    "rank_correlation",
    "read_choices",
    "records_path",
    "score_answers",
    "write_preferences",
    "write_sheet",
]
