"""The cases of `scripts/bench/faults.py`, a module a kind."""
