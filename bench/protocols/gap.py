"""How much of a difference is bookkeeping: the same stored predictions under every protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench import progress
from bench.metrics import Metric, Pair
from bench.protocols import PROTOCOLS, STRICT, Protocol, build_protocol
from bench.store import RunFolder
from bench.types import Case, Dataset

GAP_METRICS = ("Dice", "IoU", "HD95", "ASSD", "NSD")
GAP_COLUMNS = ["protocol", "metric", "unit", "mean", "n_counted", "n_dropped", "counted_by", "mean_over"]


class StoredCase(NamedTuple):
    """A case with the masks (M, L, *S) of its M draws, and their scores where there are some."""

    case: Case
    masks: np.ndarray
    scores: np.ndarray | None = None


def stored_cases(folder: RunFolder, dataset: Dataset, draws: int) -> Iterator[StoredCase]:
    """The test cases of a run with their stored predictions, one in memory at a time."""
    ids = dataset.case_ids("test")
    for done, case_id in enumerate(ids, 1):
        found = [folder.read_prediction(draw, case_id) for draw in range(draws)]
        scores, masks = (np.stack(x) for x in zip(*found, strict=True))
        yield StoredCase(dataset.case(case_id), masks, scores)
        progress.report("scoring under every protocol", done, len(ids))


def convention_gap(
    cases: Iterable[StoredCase], *, size: int = 256, metrics: Sequence[str] = GAP_METRICS
) -> pd.DataFrame:
    """One row (GAP_COLUMNS) per protocol and each of `metrics` that it has a rule for; `strict` has one for all.

    `mean` averages draws first and then as the protocol does (`mean_over`). `n_counted` and `n_dropped` count single
    values, "case and label" or "slice and label", that are in the mean and that the protocol leaves out as
    undefined. `size` is the in-plane size of the protocols that score at their network's.
    """
    columns = [(protocol, metric) for protocol in _protocols(size) for metric in _own(protocol, metrics)]
    rows: dict[int, list[tuple[str, int, int, int, float]]] = {index: [] for index in range(len(columns))}
    units: dict[int, set[str]] = {index: set() for index in rows}
    for stored in cases:
        for draw, label in np.ndindex(stored.masks.shape[:2]):
            pair = _pair(stored, draw, label)
            for index, values in enumerate(_values(columns, pair)):
                rows[index] += [(stored.case.id, label, draw, unit, value) for unit, value in enumerate(values)]
        for index, (_, metric) in enumerate(columns):
            units[index].add(metric.unit_on(stored.case.spacing_mm))
    table = [_row(*columns[index], " or ".join(sorted(units[index])), rows[index]) for index in rows]
    return pd.DataFrame(table, columns=GAP_COLUMNS)


def protocol_mean(protocol: Protocol, values: pd.Series) -> float:
    """The protocol's mean of values indexed by (case, unit, label); NaN where nothing is defined."""
    if protocol.mean_over == "labels":
        return float(values.groupby(["case", "unit"]).mean().mean())
    # As nnU-Net: a label that is undefined in every case leaves the mean over labels undefined.
    return float(values.groupby("label").mean().mean(skipna=False))


def _protocols(size: int) -> list[Protocol]:
    return [build_protocol(name, size) for name in PROTOCOLS]


def _own(protocol: Protocol, metrics: Sequence[str]) -> list[Metric]:
    known = {metric.name for metric in protocol.metrics}
    return protocol.select(name for name in metrics if protocol is STRICT or name in known)


def _pair(stored: StoredCase, draw: int, label: int) -> Pair:
    case = stored.case
    score = None if stored.scores is None else stored.scores[draw, label]
    return Pair(stored.masks[draw, label], case.reference[label], case.spacing_mm, score)


def _values(columns: list[tuple[Protocol, Metric]], pair: Pair) -> list[list[float]]:
    # A protocol cuts a pair into its units once for all its metrics.
    found: dict[str, list[list[float]]] = {}
    for protocol in dict.fromkeys(protocol for protocol, _ in columns):
        found[protocol.name] = protocol.values(pair, [metric for other, metric in columns if other is protocol])
    return [found[protocol.name].pop(0) for protocol, _ in columns]


def _row(protocol: Protocol, metric: Metric, unit: str, rows: list[tuple[str, int, int, int, float]]) -> list[object]:
    frame = pd.DataFrame(rows, columns=["case", "label", "draw", "unit", "value"])
    values = frame.groupby(["case", "unit", "label"])["value"].mean()  # over the draws where it is defined
    dropped = int(values.isna().sum())
    counts = [len(values) - dropped, dropped, f"{protocol.unit} and label", protocol.mean_over]
    return [protocol.name, metric.name, unit, protocol_mean(protocol, values), *counts]
