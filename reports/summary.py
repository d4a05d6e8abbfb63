"""Which of some summaries to show, and what must be said beside those of few cases."""

from __future__ import annotations

from bench.scores import Summary
from bench.stats import RELIABLE, SMALLEST_INTERVAL


def best(summaries: dict[str, Summary], count: int) -> dict[str, Summary]:
    """The `count` with the highest means, in the order given."""
    means = sorted((summary.mean for summary in summaries.values()), reverse=True)[:count]
    kept = [name for name, summary in summaries.items() if summary.mean >= means[-1]][:count]
    return {name: summaries[name] for name in kept}


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


def undefined_note(where: str, summary: Summary) -> str:
    """How many values of a row are undefined, why, and how many cases remain."""
    why = f", {summary.why}" if summary.why else ""
    return f"{where} {summary.undefined} values ({summary.cases} cases remain{why})"
