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
) -> Estimate:
    """An Estimate with an interval from the variance of its value.

    A score from 0 to 1 gets Wilson's interval for as many trials as give a share of this value the variance
    (its effective sample size), with Student's t quantile of `freedom` degrees: percentiles of a share cover
    too seldom on few groups (92 % with 16). A score with other bounds, or one that is biased, gets Student's
    interval: percentiles cannot end beyond the most extreme training seed, and three seeds lie to one side of
    the truth in a quarter of all cases. Where nothing varies (every image right, say) there is no interval,
    and the Estimate is ``unreliable``. ``scripts/bench/classifier_arms.py --coverage`` measures coverage.

    Args:
        value: the score; variance: of the value, 0 or more (of a bootstrap's replicates, say).
        n: number of test images.
        reliable: False marks the Estimate ``unreliable``.
        biased: resampling biases the score, as it does the calibration error; the interval then tells of
            spread alone.
        bounds: range of the score.
    """
    check_level(level)
    if freedom < 1 or variance < NO_SPREAD:
        return Estimate(value, None, None, n, method, "unreliable")
    from scipy.special import stdtrit

    status: Status = "ok" if reliable else "unreliable"
    quantile = float(stdtrit(freedom, (1 + level) / 2))
    if not biased and bounds == (0.0, 1.0) and 0 < value < 1:
        low, high = wilson(value, value * (1 - value) / variance, quantile)
    else:
        half = quantile * variance**0.5
        low, high = max(value - half, bounds[0]), min(value + half, bounds[1])
    return Estimate(value, min(low, value), max(high, value), n, method, status)


def boundary_estimate(
    value: float, *, groups: int, n: int, method: str, level: float, reliable: bool
) -> Estimate:
    """A share of 0 or 1, which no resampling moves: Wilson's interval with the groups as trials."""
    share = Estimate.of_proportion(round(value * groups), groups, level=level)
    method = f"{method}; all alike: Wilson interval over groups"
    return Estimate(value, share.low, share.high, n, method, "ok" if reliable else "unreliable")


def share_estimate(
    value: float,
    variance: float,
    *,
    groups: int,
    n: int,
    freedom: int,
    method: str,
    level: float,
    reliable: bool = True,
) -> Estimate:
    """A share with Wilson's interval for as many trials as its variance tells of.

    Independent trials of that number would vary as much (Korn and Graubard 1998). Percentiles of the
    replicates of a share near 0 or 1 cover 61 to 83 % with 10 to 32 groups. Of a share that is 0 or 1 no
    resampling tells: there the groups are the trials. ``unreliable`` below 10 `groups`, too.
    """
    reliable = reliable and groups >= FEWEST_GROUPS
    if value in (0.0, 1.0) and variance < NO_SPREAD:
        return boundary_estimate(value, groups=groups, n=n, method=method, level=level, reliable=reliable)
    return interval_estimate(
        value, variance, n=n, freedom=freedom, method=method, level=level, reliable=reliable
    )


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
