"""The interval of a distance whose variance grows with the distance itself."""

from __future__ import annotations

import math


def score_interval(value: float, *, fixed: float, slope: float, t: float) -> tuple[float, float]:
    """All tau with ``(value - tau)^2 <= t^2 (fixed + slope max(tau, 0))``, the value among them.

    As Wilson's interval for a share, it takes the variance at the *tested* distance. That at the measured one
    is small whenever the value happens to be small, so that plain intervals miss upwards; and it is never 0,
    so that they are too wide between equals.
    """
    plain = t * math.sqrt(fixed)
    middle = value + t * t * slope / 2
    root = math.sqrt(max(middle**2 - value**2 + plain**2, 0.0))
    low = middle - root if value > plain else value - plain
    high = middle + root if value > -plain else value + plain
    return min(low, value), max(high, value)
