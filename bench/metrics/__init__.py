"""The metrics over a pair of masks: built-in ones and plug-ins of the entry-point group `sdseg.metrics`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from bench.errors import InputError
from bench.metrics.overlap import dice, iou
from bench.metrics.pair import Metric, Pair

__all__ = ["METRICS", "PLUGIN_GROUP", "Metric", "Pair", "select"]

PLUGIN_GROUP = "sdseg.metrics"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("Dice", "", "higher", "strict", dice),
        Metric("IoU", "", "higher", "strict", iou),
    )
}


def select(names: Iterable[str]) -> list[Metric]:
    """The metrics of these names, in this order; raises InputError for an unknown one, with a guess."""
    plugins = {point.name: point for point in entry_points(group=PLUGIN_GROUP)}
    return [METRICS[name] if name in METRICS else _plugin(name, plugins) for name in names]


def _plugin(name: str, plugins: dict[str, EntryPoint]) -> Metric:
    if name not in plugins:
        known = sorted({*METRICS, *plugins})
        by_lower = {entry.lower(): entry for entry in known}
        close = difflib.get_close_matches(name.lower(), by_lower, n=1)
        hint = f"did you mean {by_lower[close[0]]!r}? " if close else ""
        raise InputError(f"metrics: unknown metric {name!r}; {hint}available: {', '.join(known)}")
    point = plugins[name]
    try:
        metric = point.load()
    except Exception as error:
        raise InputError(f"metrics: plug-in {name!r} ({point.value}) cannot be imported: {error}") from error
    if not isinstance(metric, Metric):
        raise InputError(f"metrics: plug-in {name!r} ({point.value}) is a {type(metric).__name__}, expected a Metric")
    return metric
