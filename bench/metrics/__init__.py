"""The metrics over a pair of masks: built-in ones and plug-ins of the entry-point group `sdseg.metrics`."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint

from bench.entry_points import entry_points
from bench.errors import InputError
from bench.metrics.calibration import BINS, brier, ece
from bench.metrics.overlap import dice, iou, precision, sensitivity
from bench.metrics.pair import Metric, Pair, share
from bench.metrics.surface import TOLERANCE, assd, hd95, nsd
from bench.metrics.volume import (
    both_empty,
    hallucinated,
    missed,
    relative_volume_difference,
    volume_bias,
    volume_difference,
)
from bench.sources import fingerprint

PLUGIN_GROUP = "sdseg.metrics"

_WHOLE_IMAGE = "over all elements of the image"


def _nsd(name: str, tolerance: float) -> Metric:
    note = f"tolerance {tolerance:g} mm, or {tolerance:g} px on cases without spacing"
    return share(name, "strict", nsd(tolerance), note=note, tolerance=tolerance)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        share("Dice", "strict", dice),
        share("IoU", "strict", iou),
        share("Sensitivity", "strict", sensitivity),
        share("Precision", "strict", precision),
        Metric("HD95", "mm", "lower", "strict", hd95, note="larger one of the directed percentiles", kind="distance"),
        Metric("ASSD", "mm", "lower", "strict", assd, kind="distance"),
        _nsd("NSD", TOLERANCE),
        Metric("VolumeDifference", "ml", "lower", "strict", volume_difference, kind="volume"),
        Metric("RelativeVolumeDifference", "", "lower", "strict", relative_volume_difference, bounds=(0.0, math.inf)),
        Metric(
            *("VolumeBias", "ml", "none", "strict", volume_bias),
            note="predicted minus reference",
            kind="volume",
            bounds=(-math.inf, math.inf),
        ),
        Metric("missed", "cases", "lower", "strict", missed, kind="count", bounds=(0.0, 1.0)),
        Metric("hallucinated", "cases", "lower", "strict", hallucinated, kind="count", bounds=(0.0, 1.0)),
        Metric("both_empty", "cases", "none", "strict", both_empty, kind="count", bounds=(0.0, 1.0)),
        share("ECE", "strict", ece, better="lower", needs_score=True, note=f"{BINS} bins, {_WHOLE_IMAGE}"),
        share("Brier", "strict", brier, better="lower", needs_score=True, note=_WHOLE_IMAGE),
    )
}

# Those that need no soft score.
MASK_METRICS = tuple(name for name, metric in METRICS.items() if not metric.needs_score)


def select(names: Iterable[str]) -> list[Metric]:
    """The metrics of these names, in this order; raises InputError for an unknown one, with a guess.

    `NSD@3` is NSD at a tolerance of 3 mm (px on cases without spacing). Refused too: no name, and one that comes twice.
    """
    names = list(names)
    if not names or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        raise InputError(f"metrics: {'name at least one' if twice is None else f'{twice} is there twice'}")
    return [METRICS[name] if name in METRICS else _at_tolerance(name) or _plugin(name) for name in names]


def plugin_code(names: Iterable[str]) -> dict[str, str]:
    """The hash of the code behind each of these names that is a plug-in's."""
    plugins = _plugins()
    others = (name for name in names if name not in METRICS and name in plugins)
    return {name: fingerprint(frozenset([plugins[name].module.partition(".")[0]])) for name in others}


def _at_tolerance(name: str) -> Metric | None:
    at = re.fullmatch(r"NSD@(\d+(?:\.\d+)?)", name)
    return _nsd(name, float(at[1])) if at else None


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=PLUGIN_GROUP)}


def _plugin(name: str) -> Metric:
    plugins = _plugins()
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
    if metric.name != name:
        raise InputError(f"metrics: plug-in {name!r} ({point.value}) calls itself {metric.name!r}; give both one name")
    return metric
