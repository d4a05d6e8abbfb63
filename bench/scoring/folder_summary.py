"""What a folder's scores come to: facts by metric and label, and the tables that a terminal shows of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from bench.metrics.facts import facts_of
from bench.stats import SMALLEST_INTERVAL, Interval, mean_interval, share_interval

_COUNTS = ("missed", "hallucinated", "both_empty")  # 0 or 1 per case
_NONE = "\u2013"  # en dash

Facts = dict[str, Any]


def summarise(frame: pd.DataFrame, conventions: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Facts]]:
    """Per metric and label of score rows: figures over cases (each the mean of its draws), and counts of cases.

    The interval is that of the mean, groups of cases kept together; None with infinite values, and below ten groups,
    whose means are listed instead.
    """
    summary: dict[str, dict[str, Facts]] = {}
    for (metric, label), rows in frame.groupby(["metric", "label"], sort=False):
        interval_of = share_interval if metric in _COUNTS else mean_interval
        of = facts_of(str(metric))
        facts = _over_cases(rows, interval_of, of.low, of.high)
        if metric in _COUNTS:
            facts["cases"] = float(rows.groupby("case")["value"].mean().sum())  # the mean over draws of such cases
        summary.setdefault(str(metric), {})[str(label)] = facts
    return summary


def _over_cases(rows: pd.DataFrame, interval_of: Callable[..., Interval], lowest: float, largest: float) -> Facts:
    by_case = rows.groupby("case").agg(value=("value", "mean"), group=("group", "first"))  # skips undefined draws
    defined = by_case.dropna(subset=["value"])
    values, groups = defined["value"], defined["group"].astype(str).tolist()
    finite = bool(np.isfinite(values).all())
    found = interval_of(values.tolist(), groups) if finite else None
    enough = found is not None and found.groups >= SMALLEST_INTERVAL and math.isfinite(found.low)
    return {
        "mean": _finite(values.mean()),
        "sd": _finite(values.std()) if finite else None,
        "interval": [max(found.low, lowest), min(found.high, largest)] if found and enough else None,
        "median": _finite(values.median()),
        "n": len(defined),
        "n_groups": len(set(groups)),
        "n_undefined": len(by_case) - len(defined),
        "n_infinite": int(np.isinf(values).sum()),
        "undefined_values": int(rows["value"].isna().sum()),
        "values": list(found.values) if found else [],
        "warning": found.warning if found else "",
    }


def summary_text(summary: dict[str, Any]) -> str:
    """A summary.json as text: values by metric and label, how many cases were found or not, and the notes."""
    metrics, said = summary["metrics"], summary["conventions"]
    shown = [
        (_name(metric, said.get(metric, {})), label, facts)
        for metric, by_label in metrics.items()
        if metric not in _COUNTS
        for label, facts in by_label.items()
    ]
    listed = any(facts["values"] for *_, facts in shown)
    headers = ("metric", "label", "mean", _spread_header(summary, listed), "median", "n", "undefined")
    values = [(name, label, *_figures(facts)) for name, label, facts in shown]
    parts = [tabulate(values, headers, disable_numparse=True)] if values else []
    counted = [metric for metric in _COUNTS if metric in metrics]
    if counted:
        rows = [
            (label, summary["n_cases"], *(f"{metrics[metric][label]['cases']:g}" for metric in counted))
            for label in summary["labels"]
        ]
        of_draws = " (mean over draws)" if summary["draws"] > 1 else ""
        parts.append(tabulate(rows, ("label", f"cases{of_draws}", *counted), disable_numparse=True))
    warnings = dict.fromkeys(facts["warning"] for *_, facts in shown if facts["warning"])
    notes = [*warnings, *summary["notes"]]
    if notes:
        parts.append("\n".join(f"note: {note}" for note in notes))
    return "\n\n".join(parts)


def _spread_header(summary: dict[str, Any], listed: bool) -> str:
    grouped = summary["n_groups"] < summary["n_cases"]
    kept = f" over {summary['n_groups']} groups" if grouped else ""
    return f"95 % interval{kept}" + (f", or the {'groups' if grouped else 'values'}" if listed else "")


def conventions_text(gap: pd.DataFrame) -> str:
    """The table of the convention gap, a line per metric and a column per protocol, and the largest minus the least."""
    protocols = list(dict.fromkeys(gap["protocol"]))
    lines = []
    for metric, rows in gap.groupby("metric", sort=False):
        units = dict(zip(rows["protocol"], rows["unit"].fillna(""), strict=True))
        means = dict(zip(rows["protocol"], rows["mean"], strict=True))
        mixed = len(set(units.values())) > 1
        cells = [_cell(means[name], units[name] if mixed else "") if name in means else _NONE for name in protocols]
        defined = [value for value in means.values() if not math.isnan(value)]
        spread = _NONE if mixed or len(defined) < 2 else _cell(max(defined) - min(defined), "")
        unit = next(iter(units.values()))
        lines.append((f"{metric} ({unit})" if unit and not mixed else metric, *cells, spread))
    return tabulate(lines, ("metric", *protocols, "spread"), disable_numparse=True)


def _name(metric: str, said: dict[str, str]) -> str:
    words = [said.get("unit", ""), said["convention"] if said.get("convention", "strict") != "strict" else ""]
    inside = ", ".join(filter(None, words))
    return f"{metric} ({inside})" if inside else metric


def _figures(facts: Facts) -> tuple[str, str, str, int, int]:
    infinite, interval = facts["n_infinite"], facts["interval"]
    mean = "infinite" if infinite else _number(facts["mean"]) if facts["n"] else "undefined"
    spread = f"[{interval[0]:.4f}, {interval[1]:.4f}]" if interval else " ".join(f"{v:.3f}" for v in facts["values"])
    median = "infinite" if infinite and facts["median"] is None else _number(facts["median"])
    return mean, spread or _NONE, median, facts["n"], facts["n_undefined"]


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4f}"


def _cell(value: float, unit: str) -> str:
    text = "undefined" if math.isnan(value) else "infinite" if math.isinf(value) else f"{value:.4f}"
    return f"{text} {unit}".strip()


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
