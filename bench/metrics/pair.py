"""A pair of masks that caches what is costly, the shape of a metric over it, and the one rule for empty masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bench.errors import InputError, RunError, one_line
from bench.metrics.boundary import SurfaceDistances, surface_distances
from bench.record import Better, Kind, MetricFacts, Undefined

BOTH_EMPTY = Undefined("both masks are empty")
_BOUNDS = {"share": (0.0, 1.0), "score": (-math.inf, math.inf)}
# What millimetres and millilitres become where a case does not state its spacing.
_WITHOUT_SPACING = {"mm": "px", "ml": "px"}


@dataclass(frozen=True, eq=False)
class Pair:
    """A predicted and a reference mask, both bool (*S), with counts and distances computed once, at first use.

    `spacing_mm` follows the order of `*S`; None means that the unit is the pixel. `score` is the soft map (*S) in
    [0, 1] behind the prediction, where there is one. `n_ignored` elements count for nothing: they are False in both
    masks and 0 in the score. Raises InputError for masks that are not bool or shapes that
    differ.
    """

    prediction: np.ndarray
    reference: np.ndarray
    spacing_mm: tuple[float, ...] | None = None
    score: np.ndarray | None = None
    n_ignored: int = 0

    def __post_init__(self) -> None:
        if self.prediction.dtype != bool or self.reference.dtype != bool:
            raise InputError(
                f"masks must be bool, got {self.prediction.dtype} and {self.reference.dtype}; "
                "let the method decide on its mask, the harness does not threshold"
            )
        for name, array in (("prediction", self.prediction), ("score", self.score)):
            if array is not None and array.shape != self.reference.shape:
                raise InputError(
                    f"{name} {array.shape} and reference {self.reference.shape} differ in shape; "
                    f"resample the {name} to the reference's grid"
                )
        if self.spacing_mm is not None and len(self.spacing_mm) != self.reference.ndim:
            raise InputError(
                f"spacing_mm has {len(self.spacing_mm)} values for masks of {self.reference.ndim} axes; "
                "give one length per axis"
            )

    @property
    def n_elements(self) -> int:
        """Elements that count."""
        return self.reference.size - self.n_ignored

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
    def both_empty(self) -> bool:
        """Whether neither mask has an element."""
        return self.n_prediction == 0 and self.n_reference == 0

    @property
    def missed(self) -> bool:
        """Whether the reference has elements and the prediction has none."""
        return self.n_prediction == 0 and self.n_reference > 0

    @property
    def hallucinated(self) -> bool:
        """Whether the prediction has elements and the reference has none."""
        return self.n_prediction > 0 and self.n_reference == 0

    @cached_property
    def surfaces(self) -> SurfaceDistances:
        """Distances between the two surfaces in mm, or px without spacing; neither mask may be empty."""
        return surface_distances(self.prediction, self.reference, self.spacing_mm)

    @property
    def diagonal(self) -> float:
        """Length of the image's diagonal in mm, or px without spacing."""
        return math.hypot(*np.multiply(self.reference.shape, self.spacing_mm or 1.0))

    @cached_property
    def in_pixels(self) -> Pair:
        """The same pair without its spacing."""
        return replace(self, spacing_mm=None) if self.spacing_mm else self


def when_empty(pair: Pair, worst: float) -> float | None:
    """What the strict protocol says where a mask is empty; None where neither is.

    Both masks empty: undefined. One of them: the worst value that the metric has, so that no mean gets better
    by missing more or by inventing more.
    """
    if pair.both_empty:
        return BOTH_EMPTY
    return worst if pair.missed or pair.hallucinated else None


@dataclass(frozen=True)
class Metric:
    """A named number of a pair with its unit, direction and convention; `Undefined` (or NaN) where it does not exist.

    Lengths are in "mm" and volumes in "ml" as far as cases state their spacing (`unit_on`). `needs_score` asks for
    the soft map. `kind`, `tolerance` and `note` are as in `bench.record.MetricFacts`; `bounds` are those of the kind
    unless given: [0, 1] of a share, from 0 of a distance, a volume or a count, none of other scores. An entry point of
    `sdseg.metrics` names such an object; its own name is that of the metric, and its `convention` "strict".
    """

    name: str
    unit: str
    better: Better
    convention: str
    function: Callable[[Any], float]
    needs_score: bool = False
    note: str = ""
    kind: Kind = "score"
    bounds: tuple[float, float] | None = None
    tolerance: float | None = None

    def __call__(self, pair: Any) -> float:
        try:
            value = self.function(pair)
            return value if isinstance(value, Undefined) else float(value)
        except InputError:
            raise
        except Exception as error:
            raise RunError(f"metric {self.name}: {one_line(error)}") from error

    def unit_on(self, spacing_mm: tuple[float, ...] | None) -> str:
        """The unit on cases of this spacing: px where there is none, and an area in mm2 where there are two axes."""
        if spacing_mm is None:
            return _WITHOUT_SPACING.get(self.unit, self.unit)
        return "mm2" if self.unit == "ml" and len(spacing_mm) == 2 else self.unit

    @property
    def facts(self) -> MetricFacts:
        """What a record says of the metric, on cases that state their spacing."""
        low, high = self.bounds or _BOUNDS.get(self.kind, (0.0, math.inf))
        return MetricFacts(
            unit=self.unit,
            better=self.better,
            kind=self.kind,
            low=low,
            high=high,
            tolerance=self.tolerance,
            note=self.note,
        )


def share(name: str, convention: str, function: Callable[[Any], float], **more: Any) -> Metric:
    """A metric in [0, 1] of which more is better, unless `more` says otherwise."""
    facts = {"better": "higher", "kind": "share", **more}
    return Metric(name, "", convention=convention, function=function, **facts)
