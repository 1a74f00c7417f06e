"""Whether this machine can run what it is asked for, and what to do where it cannot."""

from promptopt.doctor.capacity import TASKS, Device, Task, Verdict, judge_tasks
from promptopt.doctor.checks import Check, Report, examine

__all__ = ["TASKS", "Check", "Device", "Report", "Task", "Verdict", "examine", "judge_tasks"]
