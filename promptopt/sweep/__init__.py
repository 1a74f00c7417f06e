"""Many studies from one file: every combination of some of their keys."""
