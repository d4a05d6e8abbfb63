"""Surface metrics under the strict convention: both masks empty is undefined, one of them empty is the worst value.

All three rest on the distances that a pair computes once. Every surface element counts the same; area-weighted
variants (surface-distance, MONAI with `use_subvoxels`) differ, the more the further spacing is from isotropic.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.metrics.pair import Pair, when_empty

# In mm, or px on cases without spacing.
TOLERANCE = 2.0
# Distances of whole elements times a spacing meet a tolerance exactly, up to rounding.
_ROUNDING = 1 + 1e-9


def hd95(pair: Pair) -> float:
    """Larger one of the two directed 95th percentiles of the surface distances; the diagonal if one mask is empty.

    So do surface-distance, MONAI and MetricsReloaded; medpy takes that of both directions together.
    """
    empty = when_empty(pair, pair.diagonal)
    if empty is not None:
        return empty
    return max(float(np.percentile(distances, 95)) for distances in pair.surfaces)


def assd(pair: Pair) -> float:
    """Mean of all surface distances of both directions together; the diagonal if one mask is empty."""
    empty = when_empty(pair, pair.diagonal)
    return float(pair.surfaces.pooled.mean()) if empty is None else empty


def nsd(tolerance: float = TOLERANCE) -> Callable[[Pair], float]:
    """The metric at a tolerance in mm (px on cases without spacing), inclusive."""

    def share(pair: Pair) -> float:
        """Share in [0, 1] of both surfaces that lies within a tolerance of the other one."""
        empty = when_empty(pair, 0.0)
        return float((pair.surfaces.pooled <= tolerance * _ROUNDING).mean()) if empty is None else empty

    return share
