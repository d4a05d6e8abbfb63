"""Several comparisons at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.errors import InputError


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values (Scandinavian Journal of Statistics 6, 1979), in the order given.

    A NaN stays NaN and still counts as a comparison that was planned.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if ((p < 0) | (p > 1)).any():
        raise InputError(f"p values {p.tolist()}: expected numbers in [0, 1]")
    order = np.argsort(p)  # NaN last
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted.tolist()
