"""Where the values of the built-in metrics can lie."""

from __future__ import annotations

import math

_SHARES = (
    *("Dice", "IoU", "Sensitivity", "Precision", "NSD", "ECE", "Brier", "Dice/pairs", "flip_rate"),
    *("missed", "hallucinated", "both_empty"),
)
_SIGNED = ("VolumeBias",)


def value_range(metric: str, better: str) -> tuple[float, float]:
    """Smallest and largest possible value of a metric of score rows; what is better when lower is an error or distance.

    (-inf, inf) for one that nothing is known of.
    """
    name = metric.partition("@")[0].removesuffix("/seg").removesuffix("/score")
    if name in _SHARES:
        return 0.0, 1.0
    if name.endswith("SSIM") and not name.startswith("images/"):
        return -1.0, 1.0
    known = better == "lower" or name == "PSNR" or "/" in metric
    return (0.0 if known and name not in _SIGNED else -math.inf), math.inf
