"""What a folder's scores come to: facts by metric and label, and the tables that a terminal shows of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

_COUNTS = ("missed", "hallucinated", "both_empty")  # 0 or 1 per case
_NONE = "\u2013"  # en dash


def summarise(frame: pd.DataFrame) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Per metric and label of score rows: mean and sd over cases (each the mean of its draws), and counts of cases."""
    summary: dict[str, dict[str, dict[str, float | int | None]]] = {}
    for (metric, label), rows in frame.groupby(["metric", "label"], sort=False):
        cases = rows.groupby("case")["value"].mean()  # skips undefined draws; NaN when all are
        defined = cases.dropna()
        summary.setdefault(str(metric), {})[str(label)] = {
            "mean": _finite(defined.mean()),
            "sd": _finite(defined.std()) if np.isfinite(defined).all() else None,
            "n": len(defined),
            "n_undefined": len(cases) - len(defined),
            "n_infinite": int(np.isinf(defined).sum()),
            "undefined_values": int(rows["value"].isna().sum()),
        }
        if metric in _COUNTS:
            summary[str(metric)][str(label)]["cases"] = float(cases.sum())  # the mean over draws of such cases
    return summary


def summary_text(summary: dict[str, Any]) -> str:
    """A summary.json as text: values by metric and label, how many cases were found or not, and the notes."""
    metrics, said = summary["metrics"], summary["conventions"]
    values = [
        (_name(metric, said.get(metric, {})), label, *_figures(facts))
        for metric, by_label in metrics.items()
        if metric not in _COUNTS
        for label, facts in by_label.items()
    ]
    headers = ("metric", "label", "mean", "sd", "n", "undefined")
    parts = [tabulate(values, headers, disable_numparse=True)] if values else []
    counted = [metric for metric in _COUNTS if metric in metrics]
    if counted:
        rows = [
            (label, summary["n_cases"], *(f"{metrics[metric][label]['cases']:g}" for metric in counted))
            for label in summary["labels"]
        ]
        of_draws = " (mean over draws)" if summary["draws"] > 1 else ""
        parts.append(tabulate(rows, ("label", f"cases{of_draws}", *counted), disable_numparse=True))
    if summary["notes"]:
        parts.append("\n".join(f"note: {note}" for note in summary["notes"]))
    return "\n\n".join(parts)


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


def _figures(facts: dict[str, Any]) -> tuple[str, str, int, int]:
    mean = "infinite" if facts["n_infinite"] else _number(facts["mean"]) if facts["n"] else "undefined"
    return mean, _number(facts["sd"]), facts["n"], facts["n_undefined"]


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4f}"


def _cell(value: float, unit: str) -> str:
    text = "undefined" if math.isnan(value) else "infinite" if math.isinf(value) else f"{value:.4f}"
    return f"{text} {unit}".strip()


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
