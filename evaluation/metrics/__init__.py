"""Metrics: pure functions on arrays, float64 throughout, one metric a file; every summary an `Estimate`.

Import a metric from its own file (``from evaluation.metrics.mmd import mmd``) or from ``evaluation``.
"""
