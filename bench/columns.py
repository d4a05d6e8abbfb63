"""Score rows as plain arrays, and their means by case: the first half of the one way of averaging (`bench.scores`)."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.record import REASON, MetricFacts

Array = npt.NDArray[np.float64]
DECIBEL = "dB"


def squared_error(decibel: Any) -> Any:
    """The mean squared error of maps in [0, 1] behind a PSNR in dB; 0 where that is infinite."""
    return 10 ** (-np.asarray(decibel, dtype=float) / 10)


class CaseValues(NamedTuple):
    """A metric of a run by case, and what is not in it.

    `values` has every case of the rows, sorted; a metric in dB as squared error. `undefined` and `infinite` count rows,
    `reasons` says why rows are undefined, `labels` counts the labels of a case.
    """

    values: pd.Series
    undefined: int
    infinite: int
    reasons: Counter[str]
    labels: int


class Columns(NamedTuple):
    """Score rows as plain arrays (rows,), since a report chooses some of them ten thousands of times.

    `case` and `label` number the words of `cases` and `labels`; -1 is no word. `reason` is None where nobody said any.
    """

    case: npt.NDArray[np.signedinteger]
    label: npt.NDArray[np.signedinteger]
    draw: npt.NDArray[np.signedinteger]
    value: Array
    reason: npt.NDArray[np.object_] | None
    cases: pd.Index

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Columns:
        """The columns of a table of score rows."""
        case, cases = coded(rows["case"])
        reason = rows[REASON].to_numpy(object) if REASON in rows else None
        value = rows["value"].to_numpy(np.float64)
        return cls(case, coded(rows["label"])[0], rows["draw"].to_numpy(), value, reason, cases)

    def take(self, chosen: npt.NDArray[np.int64]) -> Columns:
        """The rows at these places."""
        case, label, draw, value, reason, cases = self
        said = None if reason is None else reason[chosen]
        return Columns(case[chosen], label[chosen], draw[chosen], value[chosen], said, cases)

    def draw_values(self, facts: MetricFacts) -> pd.DataFrame:
        """A table (cases, draws) of means over labels; NaN where none is defined."""
        return pd.DataFrame(*self._draw_values(facts))

    def _draw_values(self, facts: MetricFacts) -> tuple[Array, pd.Index, npt.NDArray[np.int64]]:
        value = squared_error(self.value) if facts.unit == DECIBEL else self.value
        cases, case = np.unique(self.case, return_inverse=True)
        draws, draw = np.unique(self.draw, return_inverse=True)
        size = len(cases) * len(draws)
        place, defined = draw * len(cases) + case, ~np.isnan(value)
        # Summed in the order given, so that a mean does not depend on what else is there.
        sums = np.bincount(place, np.where(defined, value, 0.0), size)
        with np.errstate(invalid="ignore"):
            means = sums / np.bincount(place, defined, size)
        names = self.cases if len(cases) == len(self.cases) else self.cases[cases]
        return means.reshape(len(draws), len(cases)).T, names, draws

    def case_values(self, facts: MetricFacts) -> CaseValues:
        """Means by case, over labels within a draw, then over draws."""
        means, cases, _ = self._draw_values(facts)
        undefined = np.isnan(self.value)
        reasons = Counter(map(str, filter(None, self.reason[undefined]))) if self.reason is not None else Counter()
        values = pd.Series(mean_of_defined(means), cases.rename("case"))
        infinite, labels = int(np.isinf(self.value).sum()), np.unique(self.label[self.label >= 0])
        return CaseValues(values, int(undefined.sum()), infinite, reasons, len(labels))


def coded(words: pd.Series) -> tuple[npt.NDArray[Any], pd.Index]:
    """Numbers (rows,) of words, -1 where there is none, and the words."""
    named = words if isinstance(words.dtype, pd.CategoricalDtype) else words.astype("category")
    return named.cat.codes.to_numpy(), named.cat.categories.astype(str).astype(object)


def mean_of_defined(table: Array) -> Array:
    """Means of the defined values of every row (rows, n); NaN where there is none, infinite where one is."""
    defined = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return np.where(defined, table, 0.0).sum(axis=1) / defined.sum(axis=1)
