"""What a paired comparison of so many cases could have seen."""

from __future__ import annotations

import math

from scipy import optimize, special, stats

POWER = 0.8
ALPHA = 0.05


def power(difference: float, sd: float, n: int, *, alpha: float = ALPHA) -> float:
    """Chance that a two-sided paired t test of n cases finds a true mean difference, in its direction.

    `sd` is the standard deviation of the differences. NaN with fewer than two cases or no spread.
    """
    if n < 2 or not sd > 0:
        return math.nan
    return _power(abs(difference) * math.sqrt(n) / sd, n, alpha)


def smallest_detectable(sd: float, n: int, *, wanted: float = POWER, alpha: float = ALPHA) -> float:
    """The true difference that this test finds with the wanted power; 0 where SD is 0, NaN where n < 2."""
    if n < 2 or math.isnan(sd):
        return math.nan
    far = 4 * float(special.stdtrit(n - 1, 1 - alpha / 2))
    shift = optimize.brentq(lambda shift: _power(shift, n, alpha) - wanted, 0.0, far)
    return float(shift) * sd / math.sqrt(n)


def _power(shift: float, n: int, alpha: float) -> float:
    return float(stats.nct.sf(special.stdtrit(n - 1, 1 - alpha / 2), n - 1, shift))
