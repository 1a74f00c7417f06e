"""The tables and figures of a paper, from finished studies and comparisons of generators."""
