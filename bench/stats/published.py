"""How likely a published gain is false when only two means and the number of cases are known."""

from __future__ import annotations

import math

from scipy import special

from bench.errors import InputError

# No paper of the ledger reports a spread. Both are assumptions, to be printed beside every probability.
ASSUMED_SD = {"cvc_clinicdb": 0.08, "kvasir_seg": 0.10, "btcv": 0.05, "sts3d": 0.03, "refuge2": 0.08}
ASSUMED_CORRELATION = 0.7


def false_claim(mean_a: float, mean_b: float, n: int, sd: float, *, correlation: float = ASSUMED_CORRELATION) -> float:
    """Probability that A is not better than B, given two published means over the same n cases; higher is better.

    Christodoulou et al., "False Promises in Medical Imaging AI?" (arXiv 2505.04720): with a flat prior it is
    t_{n-1}(-sqrt(n) (mean_a - mean_b) / sqrt(sd_a^2 + sd_b^2 - 2 correlation sd_a sd_b)), here with one SD for both, in
    the means' unit. NaN with fewer than two cases or no spread.
    """
    if not (sd >= 0 and -1 <= correlation <= 1):
        raise InputError(f"SD {sd}, correlation {correlation}: expected an SD >= 0 and a correlation in [-1, 1]")
    spread = sd * math.sqrt(2 - 2 * correlation)
    known = n >= 2 and spread > 0
    return float(special.stdtr(n - 1, -math.sqrt(n) * (mean_a - mean_b) / spread)) if known else math.nan
