"""Experts' opinions: which prompt's images are better, and whether images can be told from real ones."""
