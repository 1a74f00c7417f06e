"""Cases of scripts/bench/scale.py."""
