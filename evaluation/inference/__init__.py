"""Intervals and tests: paired comparisons, bootstraps, corrections for several tests, agreement."""
