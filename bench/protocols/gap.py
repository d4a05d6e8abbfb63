"""How much of a difference is bookkeeping: the same stored predictions under every protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.metrics import Metric
from bench.protocols import PROTOCOLS, STRICT, Protocol, build_protocol
from bench.results.stored import StoredCase

GAP_METRICS = ("Dice", "IoU", "HD95", "ASSD")
GAP_COLUMNS = ["protocol", "metric", "unit", "mean", "n_counted", "n_dropped", "counted_by", "mean_over"]


class GapValue(NamedTuple):
    """What a protocol says of one label of a case, or of one slice of it (`part`): the mean of the draws."""

    protocol: str
    metric: str
    unit: str
    case: str
    label: int
    part: int
    value: float


def case_values(stored: StoredCase, *, size: int = 256, metrics: Sequence[str] = GAP_METRICS) -> list[GapValue]:
    """The values of one case under every protocol, by each of `metrics` that it has a rule for (`strict`: by all).

    Draws on which a value is undefined leave their mean; it is NaN where all are. `size` is the in-plane size of the
    protocols that score at their network's.
    """
    plan = [(protocol, _own(protocol, metrics)) for protocol in _protocols(size)]
    found: dict[tuple[str, str, str, int], list[list[float]]] = {}
    for _, label, pair in stored.pairs():
        for protocol, own in plan:
            for metric, values in zip(own, protocol.values(pair, own), strict=True):
                key = (protocol.name, metric.name, metric.unit_on(stored.case.spacing_mm), label)
                found.setdefault(key, []).append(values)
    return [
        GapValue(protocol, metric, unit, stored.case.id, label, part, float(value))
        for (protocol, metric, unit, label), draws in found.items()
        for part, value in enumerate(_mean_of_defined(np.asarray(draws)))
    ]


def gap_table(values: Iterable[GapValue], *, size: int = 256) -> pd.DataFrame:
    """One row (GAP_COLUMNS) per protocol and metric from the values of all cases.

    `mean` is the protocol's own (`mean_over`). `n_counted` and `n_dropped` count values, "case and label" or "slice
    and label", that are in the mean and that the protocol leaves out as undefined.
    """
    frame = pd.DataFrame(values, columns=GapValue._fields)
    protocols = {protocol.name: protocol for protocol in _protocols(size)}
    groups = frame.groupby(["protocol", "metric"], sort=False)
    rows = [_row(protocols[str(name)], str(metric), part) for (name, metric), part in groups]
    return pd.DataFrame(rows, columns=GAP_COLUMNS)


def protocol_mean(protocol: Protocol, frame: pd.DataFrame) -> float:
    """The protocol's mean of values with the columns of GapValue; NaN where nothing is defined."""
    if protocol.mean_over == "labels":
        return float(frame.groupby(["case", "part"])["value"].mean().mean())
    # As nnU-Net: a label that is undefined in every case leaves the mean over labels undefined.
    return float(frame.groupby("label")["value"].mean().mean(skipna=False))


def _protocols(size: int) -> list[Protocol]:
    return [build_protocol(name, size) for name in PROTOCOLS]


def _own(protocol: Protocol, metrics: Sequence[str]) -> list[Metric]:
    known = {metric.name for metric in protocol.metrics}
    return protocol.select(name for name in metrics if protocol is STRICT or name in known)


def _mean_of_defined(draws: np.ndarray) -> np.ndarray:
    """Over the draws (M, parts); NaN where no draw is defined, infinite where one is."""
    defined = ~np.isnan(draws)
    totals, counts = np.where(defined, draws, 0).sum(0), defined.sum(0)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def _row(protocol: Protocol, metric: str, frame: pd.DataFrame) -> list[object]:
    dropped = int(frame["value"].isna().sum())
    counts = [len(frame) - dropped, dropped, f"{protocol.unit} and label", protocol.mean_over]
    return [protocol.name, metric, " or ".join(sorted(set(frame["unit"]))), protocol_mean(protocol, frame), *counts]
