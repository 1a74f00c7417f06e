"""The tables and figures of a paper, from finished studies and comparisons of generators."""

from promptopt.paper_tables.sources import Comparisons, FinishedRun, TablesError, read_sources
from promptopt.paper_tables.writing import write_tables

__all__ = ["Comparisons", "FinishedRun", "TablesError", "read_sources", "write_tables"]
