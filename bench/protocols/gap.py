"""How much of a difference is bookkeeping: the same stored predictions under every protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from bench.metrics import Metric, Pair
from bench.protocols import PROTOCOLS, STRICT, Protocol, build_protocol

GAP_METRICS = ("Dice", "IoU", "HD95", "ASSD")
GAP_COLUMNS = ["protocol", "metric", "unit", "mean", "n_counted", "n_dropped", "counted_by", "mean_over"]


class GapValue(NamedTuple):
    """What a protocol says of one label of a draw of a case, or of one slice of it (`part`)."""

    protocol: str
    metric: str
    unit: str
    case: str
    label: int
    draw: int
    part: int
    value: float


def plan(size: int = 256, metrics: Sequence[str] = GAP_METRICS) -> list[tuple[Protocol, list[Metric]]]:
    """Every protocol with those of `metrics` that it has a rule for (`strict`: all of them).

    `size` is the in-plane size of the protocols that score at their network's.
    """
    return [(protocol, _own(protocol, metrics)) for protocol in _protocols(size)]


def pair_values(
    pair: Pair, planned: Sequence[tuple[Protocol, list[Metric]]], case: str, label: int, draw: int
) -> list[GapValue]:
    """The values of one label of a draw of a case under every protocol of a plan."""
    rows: list[GapValue] = []
    for protocol, own in planned:
        for metric, values in zip(own, protocol.values(pair, own), strict=True):
            key = (protocol.name, metric.name, metric.unit_on(pair.spacing_mm), case, label, draw)
            rows += [GapValue(*key, part, float(value)) for part, value in enumerate(values)]
    return rows


def gap_table(values: Iterable[GapValue], *, size: int = 256) -> pd.DataFrame:
    """One row (GAP_COLUMNS) per protocol and metric from the values of all cases.

    `mean` is the protocol's own (`mean_over`). `n_counted` and `n_dropped` count values, "case and label" or "slice
    and label", that are in the mean and that the protocol leaves out as undefined in every draw.
    """
    frame = pd.DataFrame(values, columns=GapValue._fields)
    protocols = {protocol.name: protocol for protocol in _protocols(size)}
    groups = frame.groupby(["protocol", "metric"], sort=False)
    rows = [_row(protocols[str(name)], str(metric), part) for (name, metric), part in groups]
    return pd.DataFrame(rows, columns=GAP_COLUMNS)


def protocol_mean(protocol: Protocol, frame: pd.DataFrame) -> float:
    """The protocol's mean of values with the columns of GapValue; NaN where nothing is defined."""
    if protocol.mean_over == "labels":  # within a draw, as everywhere; then draws, then cases
        by_draw = frame.groupby(["case", "part", "draw"])["value"].mean()
        return float(by_draw.groupby(["case", "part"]).mean().mean())
    # As nnU-Net: a label that is undefined in every case leaves the mean over labels undefined.
    return float(_over_draws(frame).groupby("label").mean().mean(skipna=False))


def _protocols(size: int) -> list[Protocol]:
    return [build_protocol(name, size) for name in PROTOCOLS]


def _own(protocol: Protocol, metrics: Sequence[str]) -> list[Metric]:
    known = {metric.name for metric in protocol.metrics}
    return protocol.select(name for name in metrics if protocol is STRICT or name in known)


def _over_draws(frame: pd.DataFrame) -> pd.Series:
    return frame.groupby(["case", "part", "label"])["value"].mean()


def _row(protocol: Protocol, metric: str, frame: pd.DataFrame) -> list[object]:
    values = _over_draws(frame)
    dropped = int(values.isna().sum())
    counts = [len(values) - dropped, dropped, f"{protocol.unit} and label", protocol.mean_over]
    return [protocol.name, metric, " or ".join(sorted(set(frame["unit"]))), protocol_mean(protocol, frame), *counts]
