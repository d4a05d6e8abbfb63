"""How likely a published gain is false when only two means and the number of cases are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

from bench.errors import InputError

# No paper of the ledger reports a spread. Both are assumptions, to be printed beside every probability.
ASSUMED_SD = {"cvc_clinicdb": 0.08, "kvasir_seg": 0.10, "btcv": 0.05, "sts3d": 0.03, "refuge2": 0.08}
ASSUMED_CORRELATION = 0.7


@dataclass(frozen=True)
class FalseClaim:
    """Probability that "A is better than B" is false, with what it rests on."""

    probability: float
    difference: float
    n: int
    sd_a: float
    sd_b: float
    correlation: float


def false_claim(
    mean_a: float,
    mean_b: float,
    n: int,
    sd_a: float,
    sd_b: float | None = None,
    *,
    correlation: float = ASSUMED_CORRELATION,
    better: str = "higher",
) -> FalseClaim:
    """Probability that A is not better than B, given two published means over the same n cases.

    Christodoulou et al., "False Promises in Medical Imaging AI?" (arXiv 2505.04720): with a flat prior it is
    t_{n-1}(-sqrt(n) (mean_a - mean_b) / sqrt(sd_a^2 + sd_b^2 - 2 correlation sd_a sd_b)). Means and SDs share a unit;
    `sd_b` is `sd_a` where not given. NaN with fewer than two cases or no spread.
    """
    other = sd_a if sd_b is None else sd_b
    if not (sd_a >= 0 and other >= 0 and -1 <= correlation <= 1) or better not in ("higher", "lower"):
        raise InputError(
            f"SDs {sd_a} and {other}, correlation {correlation}, better {better}: "
            "expected SDs >= 0, a correlation in [-1, 1], and higher or lower"
        )
    gain = mean_a - mean_b if better == "higher" else mean_b - mean_a
    spread = math.sqrt(max(0.0, sd_a**2 + other**2 - 2 * correlation * sd_a * other))
    known = n >= 2 and spread > 0
    probability = float(special.stdtr(n - 1, -math.sqrt(n) * gain / spread)) if known else math.nan
    return FalseClaim(probability, mean_a - mean_b, n, sd_a, other, correlation)
