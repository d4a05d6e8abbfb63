"""What a folder's scores come to: facts by metric and label, and the tables that a terminal shows of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from bench.columns import DECIBEL
from bench.protocols import build_protocol
from bench.record import REASON, RunRecord
from bench.scores import RunScores, Summary, agreement, decibels

_COUNTS = ("missed", "hallucinated", "both_empty")  # 0 or 1 per case
_NONE = "\u2013"  # en dash

Facts = dict[str, Any]


def summary_of(record: RunRecord, rows: pd.DataFrame, read: Mapping[str, Any]) -> dict[str, Any]:
    """What summary.json says of a scored folder: its record and rows in short, and how its masks were `read`."""
    rules, scores = build_protocol(**record.config["protocol"]), RunScores(rows)
    conventions = rows.drop_duplicates("metric").set_index("metric")["convention"].to_dict()
    metrics: dict[str, dict[str, Facts]] = {}
    for name, label in rows[["metric", "label"]].drop_duplicates().itertuples(index=False):
        facts = record.metrics[name]
        single = scores.conventions(name)
        summary = scores.summary(name, facts, label=label) if single else agreement([scores], name, facts, label)
        metrics.setdefault(name, {})[label] = _figures_of(summary, scores.groups)
    return {
        "protocol": rules.name,
        "rules": {"targets": rules.targets, "grid": rules.grid, "empty": rules.empty},
        "conventions": {str(name): _said(record, str(name), how) for name, how in conventions.items()},
        "n_cases": record.n_cases["test"],
        "n_groups": scores.groups.nunique(),
        "draws": record.draws,
        "labels": record.labels,
        **read,
        "references": record.data["references"],
        "notes": [*record.notes, *_why(rows)],
        "metrics": metrics,
        "files": {name: record.files[name] for name in ("scores.parquet",)},
    }


def _said(record: RunRecord, name: str, convention: str) -> dict[str, str]:
    facts = record.metrics[name]
    note = {"note": facts.note} if facts.note else {}
    return {"convention": convention, "unit": facts.unit, "better": facts.better, **note}


def _why(rows: pd.DataFrame) -> list[str]:
    undefined = rows[rows["value"].isna() & (rows[REASON] != "")]
    said = undefined.groupby(REASON, sort=False)["metric"].unique()
    return [f"{', '.join(metrics)} undefined: {reason}" for reason, metrics in said.items()]


def _figures_of(summary: Summary, groups: pd.Series) -> Facts:
    """Figures over the cases of one metric and label; no interval below ten groups, whose means are listed instead."""
    defined, estimate, interval = summary.every.dropna(), summary.estimate, summary.interval
    values = np.asarray(estimate.values if estimate else (), dtype=float)
    values = np.sort(decibels(values)) if summary.facts.unit == DECIBEL else values
    return {
        "mean": _finite(summary.mean),
        "sd": _finite(summary.sd),
        "interval": list(interval) if interval and np.isfinite(interval).all() else None,
        "median": _finite(defined.median()),
        "n": len(defined),
        "n_groups": int(groups[defined.index].nunique()),
        "n_undefined": summary.excluded,
        "n_infinite": int(np.isinf(defined).sum()),
        "undefined_values": summary.undefined,
        "values": values.tolist() if np.isfinite(values).all() else [],
        "warning": estimate.warning if estimate else "",
        **({"cases": summary.count} if summary.facts.unit == "cases" else {}),
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


def _name(metric: str, said: dict[str, str]) -> str:
    words = [said.get("unit", ""), said["convention"] if said.get("convention", "strict") != "strict" else ""]
    inside = ", ".join(filter(None, words))
    return f"{metric} ({inside})" if inside else metric


def _figures(facts: Facts) -> tuple[str, str, str, int, int]:
    infinite, interval = facts["n_infinite"], facts["interval"]
    mean = _number(facts["mean"]) if facts["mean"] is not None else "infinite" if infinite else "undefined"
    spread = f"[{interval[0]:.4f}, {interval[1]:.4f}]" if interval else " ".join(f"{v:.3f}" for v in facts["values"])
    median = "infinite" if infinite and facts["median"] is None else _number(facts["median"])
    return mean, spread or _NONE, median, facts["n"], facts["n_undefined"]


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4f}"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
