"""The report of a study of sets: one page, its first screen the sentence and its picture."""

from promptopt.study.report.sets.page import SetReport, write_set_report

__all__ = ["SetReport", "write_set_report"]
