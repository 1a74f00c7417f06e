"""Generators compared on one prepared set, as a paper's tables and figures."""
