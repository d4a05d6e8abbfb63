"""Score rows of one run: read once and compactly, sorted by metric, and averaged within every case."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.record import SCORE_COLUMNS, WORD_COLUMNS, BadRecordError, read_scores
from reports.summary import CaseMeans

Array = npt.NDArray[np.float64]


class RunScores:
    """The rows (SCORE_COLUMNS, words as categories) of a run, by metric."""

    def __init__(self, rows: pd.DataFrame) -> None:
        order = np.argsort(rows["metric"].cat.codes, kind="stable")
        self.table = rows.take(order)
        codes = self.table["metric"].cat.codes.to_numpy()
        names = self.table["metric"].cat.categories
        bounds = np.searchsorted(codes, np.arange(len(names) + 1))
        ends = zip(map(str, names), bounds, bounds[1:], strict=False)
        self._parts = {name: slice(start, stop) for name, start, stop in ends if stop > start}

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that have rows, sorted."""
        return list(self._parts)

    def rows(self, metric: str) -> pd.DataFrame:
        """The rows of one metric, none where it was not scored."""
        return self.table.iloc[self._parts.get(metric, slice(0))]

    @cached_property
    def groups(self) -> pd.Series:
        """The group of every case, by case."""
        first = self.table.drop_duplicates("case")
        return pd.Series(first["group"].astype(str).to_numpy(), pd.Index(first["case"].astype(str), name="case"))

    @cached_property
    def by_case(self) -> dict[tuple[str, str, bool], CaseMeans]:
        """Of (metric, convention, whether of single draws): the mean of every case over labels, then draws.

        Beside it the numbers of rows that are undefined, and infinite; neither is in the means.
        """
        codes = {name: self.table[name].cat.codes.to_numpy(np.int64) for name in ("metric", "convention", "case")}
        names = {name: list(map(str, self.table[name].cat.categories)) for name in codes}
        value, draw = self.table["value"].to_numpy(), self.table["draw"].to_numpy()
        part = 2 * (codes["metric"] * len(names["convention"]) + codes["convention"]) + (draw >= 0)
        draws, place = np.unique(draw, return_inverse=True)
        shape = int(part.max(initial=0)) + 1, len(names["case"]), max(1, len(draws))
        by_draw, rows = _means(value, np.ravel_multi_index((part, codes["case"], place), shape), shape)
        by_case, _ = _means(by_draw.ravel(), np.repeat(np.arange(shape[0] * shape[1]), shape[2]), shape[:2])
        undefined, infinite = (np.bincount(part, which(value), shape[0]).astype(int) for which in (np.isnan, np.isinf))
        scored, every = np.asarray(rows.any(axis=2)), pd.Index(names["case"], name="case")
        found = {}
        for number in np.unique(part):
            metric, convention = divmod(int(number) // 2, len(names["convention"]))
            inside = scored[number]
            values = pd.Series(by_case[number][inside], every if inside.all() else every[inside])
            key = names["metric"][metric], names["convention"][convention], bool(number % 2)
            found[key] = values, int(undefined[number]), int(infinite[number])
        return found


def read_run_scores(path: Path) -> RunScores:
    """Read `scores.parquet`; raises BadRecordError naming the file."""
    frame = read_scores(path, categories=True)
    # A case of no group is a group of its own.
    if frame["group"].isna().any():
        group = frame["group"].astype(object)
        frame["group"] = group.where(group.notna(), frame["case"].astype(object))
    try:
        numbers = {"draw": frame["draw"].astype(np.int64).astype(np.int32), "value": frame["value"].astype(np.float64)}
        words = {name: _categories(frame[name]) for name in WORD_COLUMNS}
    except (ValueError, TypeError) as error:
        raise BadRecordError(f"{path}: not a table of scores ({str(error).splitlines()[0]}); score again") from error
    return RunScores(pd.DataFrame({**words, **numbers})[SCORE_COLUMNS])


def _categories(words: pd.Series) -> pd.Categorical:
    """Sorted categories, one object for all runs that have the same."""
    if words.isna().any():
        raise ValueError(f"rows without {words.name}")
    if not isinstance(words.dtype, pd.CategoricalDtype):
        words = words.astype(str).astype("category")
    names = words.cat.categories.astype(str).to_numpy(dtype=object)
    order = np.argsort(names)
    codes = np.empty(len(names), dtype=np.int32)
    codes[order] = np.arange(len(names))
    return pd.Categorical.from_codes(codes[words.cat.codes], dtype=_shared(tuple(names[order])))


def _means(values: Array, places: npt.NDArray[np.int64], shape: tuple[int, ...]) -> tuple[Array, npt.NDArray[np.int64]]:
    """Means of the finite values at each place of `shape`, NaN where there is none, and how many values there are.

    Summed in the order given, so that a mean does not depend on what else is there.
    """
    finite, size = np.isfinite(values), int(np.prod(shape))
    sums = np.bincount(places, np.where(finite, values, 0.0), size)
    with np.errstate(invalid="ignore"):
        means = sums / np.bincount(places, finite, size)
    return means.reshape(shape), np.bincount(places, minlength=size).astype(np.int64).reshape(shape)


@lru_cache(maxsize=256)
def _shared(names: tuple[str, ...]) -> pd.CategoricalDtype:
    return pd.CategoricalDtype(list(names))
