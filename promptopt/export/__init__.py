"""What a study hands over: the prompt list and the tables."""

from promptopt.export.prompts import PromptEntry, PromptList, read_prompts, write_prompts
from promptopt.export.tables import write_confirmation, write_effects, write_trials

__all__ = [
    "PromptEntry",
    "PromptList",
    "read_prompts",
    "write_confirmation",
    "write_effects",
    "write_prompts",
    "write_trials",
]
