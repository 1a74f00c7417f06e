"""Generators compared on one prepared set, as a paper's tables and figures."""

from promptopt.generator_comparison.output import write_comparison
from promptopt.generator_comparison.run import (
    REAL,
    Contender,
    GeneratorComparison,
    Made,
    compare_generators,
)
from promptopt.generator_comparison.scopes import ComparisonError, Scope, Scopes, centre_scopes
from promptopt.generator_comparison.scores import METRICS, Score

__all__ = [
    "METRICS",
    "REAL",
    "ComparisonError",
    "Contender",
    "GeneratorComparison",
    "Made",
    "Scope",
    "Scopes",
    "Score",
    "centre_scopes",
    "compare_generators",
    "write_comparison",
]
