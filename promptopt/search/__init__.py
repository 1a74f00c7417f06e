"""The search: which prompt to try next, on how many images, and the record of what was tried."""

from promptopt.search.candidates import ENUMERABLE, Candidates
from promptopt.search.engine import MemoryLog, Pull, Scored, Scorer, Search, complete, images_made, ranked
from promptopt.search.noise import means_with_noise
from promptopt.search.racing import beaten, stages
from promptopt.search.samplers import SAMPLERS, Models, Sampling, propose, resolve
from promptopt.search.surrogate import SlotModel
from promptopt.search.trials import GAIN, TrialLog, TrialRow, latest, row_of

__all__ = [
    "ENUMERABLE",
    "GAIN",
    "SAMPLERS",
    "Candidates",
    "MemoryLog",
    "Models",
    "Pull",
    "Sampling",
    "Scored",
    "Scorer",
    "Search",
    "SlotModel",
    "TrialLog",
    "TrialRow",
    "beaten",
    "complete",
    "images_made",
    "latest",
    "means_with_noise",
    "propose",
    "ranked",
    "resolve",
    "row_of",
    "stages",
]
