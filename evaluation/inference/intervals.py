"""Intervals and p-values from the variance of a score, as resampling gives it."""

from __future__ import annotations

from evaluation.estimate import Estimate, Status, check_level, wilson

FEWEST_GROUPS = 10
"""Below so many test groups (of a class, where classes count) an estimate is ``unreliable``."""


NO_SPREAD = 1e-24
"""Below so small a variance nothing varies but the rounding."""


def interval_estimate(
    value: float,
    variance: float,
    *,
    n: int,
    freedom: int,
    method: str,
    level: float = 0.95,
    reliable: bool = True,
    biased: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    groups: int | None = None,
) -> Estimate:
    """An Estimate with an interval from the variance of its value.

    A score from 0 to 1 gets Wilson's interval for as many trials as give a share of this value the variance
    (its effective sample size, Korn and Graubard 1998), with Student's t quantile of `freedom` degrees:
    percentiles of a share cover too seldom on few groups (92 % with 16). A score with other bounds, or one
    that is biased, gets Student's interval: percentiles cannot end beyond the most extreme training seed, and
    three seeds lie to one side of the truth in a quarter of all cases. Where nothing varies (every image
    right, say) there is no interval, and the Estimate is ``unreliable``. Coverage is measured by
    ``scripts/bench/classifier_arms.py --coverage``.

    Args:
        value: the score; variance: of the value, 0 or more (of a bootstrap's replicates, say).
        n: number of test images.
        reliable: False marks the Estimate ``unreliable``.
        biased: resampling biases the score, as it does the calibration error; the interval then tells of
            spread alone.
        bounds: range of the score.
        groups: of a share of images, the number of independent groups: they are Wilson's trials where the
            share is 0 or 1 and nothing varies.
    """
    check_level(level)
    status: Status = "ok" if reliable else "unreliable"
    if groups is not None and value in (0.0, 1.0) and variance < NO_SPREAD:
        share = Estimate.of_proportion(round(value * groups), groups, level=level)
        method = f"{method}; all alike: Wilson interval over groups"
        return Estimate(value, share.low, share.high, n, method, status)
    if freedom < 1 or variance < NO_SPREAD:
        return Estimate(value, None, None, n, method, "unreliable")
    from scipy.special import stdtrit

    quantile = float(stdtrit(freedom, (1 + level) / 2))
    if not biased and bounds == (0.0, 1.0) and 0 < value < 1:
        low, high = wilson(value, value * (1 - value) / variance, quantile)
    else:
        half = quantile * variance**0.5
        low, high = max(value - half, bounds[0]), min(value + half, bounds[1])
    return Estimate(value, min(low, value), max(high, value), n, method, status)


def p_value(value: float, variance: float, *, freedom: int) -> float | None:
    """Two-sided p-value of "no difference": the level at which Student's interval would reach 0.

    None without a degree of freedom. Where nothing varies, every group says the same: then the sign test's.
    """
    if freedom < 1:
        return None
    from scipy.special import stdtr

    if variance < NO_SPREAD:
        return 1.0 if abs(value) < 1e-12 else 2.0**-freedom
    return float(2 * stdtr(freedom, -abs(value) / variance**0.5))
