"""A pair of masks that caches what is costly, and the shape of a metric over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from bench.errors import InputError


@dataclass(frozen=True, eq=False)
class Pair:
    """A predicted and a reference mask, both bool (*S), with counts that are computed once, at first use.

    `spacing_mm` follows the order of `*S`; None means that the unit is the pixel. Raises InputError if the
    masks are not bool or differ in shape.
    """

    prediction: np.ndarray
    reference: np.ndarray
    spacing_mm: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.prediction.dtype != bool or self.reference.dtype != bool:
            raise InputError(
                f"masks must be bool, got {self.prediction.dtype} and {self.reference.dtype}; "
                "let the method decide on its mask, the harness does not threshold"
            )
        if self.prediction.shape != self.reference.shape:
            raise InputError(
                f"prediction {self.prediction.shape} and reference {self.reference.shape} differ in shape; "
                "resample the prediction to the reference's grid"
            )
        if self.spacing_mm is not None and len(self.spacing_mm) != self.reference.ndim:
            raise InputError(
                f"spacing_mm has {len(self.spacing_mm)} values for masks of {self.reference.ndim} axes; "
                "give one length per axis"
            )

    @cached_property
    def n_prediction(self) -> int:
        """Elements of the prediction."""
        return int(np.count_nonzero(self.prediction))

    @cached_property
    def n_reference(self) -> int:
        """Elements of the reference."""
        return int(np.count_nonzero(self.reference))

    @cached_property
    def true_positives(self) -> int:
        """Elements in both masks."""
        return int(np.count_nonzero(self.prediction & self.reference))

    @property
    def false_positives(self) -> int:
        """Elements in the prediction alone."""
        return self.n_prediction - self.true_positives

    @property
    def false_negatives(self) -> int:
        """Elements in the reference alone."""
        return self.n_reference - self.true_positives

    @property
    def both_empty(self) -> bool:
        """Whether neither mask has an element."""
        return self.n_prediction == 0 and self.n_reference == 0


@dataclass(frozen=True)
class Metric:
    """A named number of a pair with its unit, direction and convention; NaN where it is undefined."""

    name: str
    unit: str
    better: Literal["higher", "lower", "none"]
    convention: str
    function: Callable[[Pair], float]

    def __call__(self, pair: Pair) -> float:
        return float(self.function(pair))
