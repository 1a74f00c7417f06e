"""The report of a study: one HTML page that needs nothing else."""

from promptopt.report.render import ReportInput, write_report

__all__ = ["ReportInput", "write_report"]
