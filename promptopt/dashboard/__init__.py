"""A run in optuna-dashboard, with the images of every prompt."""

from promptopt.dashboard.copying import Copied, DashboardCopy
from promptopt.dashboard.serving import open_dashboard

__all__ = ["Copied", "DashboardCopy", "open_dashboard"]
