"""Which of some summaries to show, and what must be said beside them: few cases, undefined and missing values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.scores import Summary
from bench.stats import RELIABLE, SMALLEST_INTERVAL
from reports.rows import Run

Missing = dict[str, list[tuple[str, str]]]  # by column title, (row name, reason)


def best(summaries: dict[str, Summary], count: int) -> dict[str, Summary]:
    """The `count` with the highest means, in the order given; those without a mean are the last to be kept."""
    means = {name: -math.inf if math.isnan(summary.mean) else summary.mean for name, summary in summaries.items()}
    kept = sorted(means, key=lambda name: means[name], reverse=True)[:count]
    return {name: summary for name, summary in summaries.items() if name in kept}


def reliability_notes(rows: list[tuple[str, Summary]], digits: int = 3) -> list[str]:
    """The warnings that small samples need, from (row name, summary); none from 30 independent units on."""
    unreliable: dict[str, list[str]] = {}
    listed = []
    for name, summary in rows:
        grouped = f" groups, {summary.cases} cases" if summary.units != summary.cases else ""
        size = f"n={summary.units}{grouped}"
        if SMALLEST_INTERVAL <= summary.units < RELIABLE:
            unreliable.setdefault(size, []).append(name)
        elif summary.cases and summary.units < SMALLEST_INTERVAL:
            values = ", ".join(f"{value:.{digits}f}" for value in sorted(summary.per_case))
            listed.append(f"{name}: no interval ({size}); values per case: {values}.")
    return [f"CI unreliable ({size}): {'; '.join(names)}." for size, names in unreliable.items()] + listed


def counts(scored: list[tuple[str, dict[str, Summary]]], metric: str) -> tuple[str, str]:
    """Of a metric's rows how many values are undefined, why, and how many cases remain; how many are infinite."""
    rows = [(where, summaries[metric]) for where, summaries in scored if metric in summaries]
    undefined = []
    for where, summary in rows:
        if summary.undefined:
            why = f", {summary.why}" if summary.why else ""
            undefined.append(f"{where} {summary.undefined} values ({summary.cases} cases remain{why})")
    infinite = [f"{where} {summary.infinite}" for where, summary in rows if summary.infinite]
    return "; ".join(undefined), "; ".join(infinite)


def reason(runs: Sequence[Run], metric: str) -> str:
    """The first note on a run-level score of a row, or "" where none speaks of it."""
    scores = (score for run in runs for score in run.record.scores)
    return next((score.note for score in scores if score.metric == metric and score.note), "")


def missing_notes(missing: Missing) -> list[str]:
    """One line per column and reason."""
    lines = []
    for title, rows in missing.items():
        by_reason: dict[str, list[str]] = {}
        for name, why in rows:
            by_reason.setdefault(why.rstrip("."), []).append(name)
        for why, names in by_reason.items():
            lines.append(f"{title} missing for {'; '.join(names)}: {why or 'the record gives no reason'}.")
    return lines
