"""A look at a submission before it goes out: `check_submission`."""

from promptopt.export.check.findings import Finding, Findings
from promptopt.export.check.run import check_submission

__all__ = ["Finding", "Findings", "check_submission"]
