"""Why a cell is empty, as far as the records say."""

from __future__ import annotations

from reports.frame import Run


def reason(runs: list[Run], metric: str) -> str:
    """The first note on a run-level score of a row, or "" where none speaks of it."""
    scores = (score for run in runs for score in run.record.scores)
    return next((score.note for score in scores if score.metric == metric and score.note), "")


def missing_notes(missing: dict[str, list[tuple[str, str]]]) -> list[str]:
    """One line per column and reason from {column title: [(row name, reason)]}."""
    lines = []
    for title, rows in missing.items():
        by_reason: dict[str, list[str]] = {}
        for name, why in rows:
            by_reason.setdefault(why.rstrip("."), []).append(name)
        for why, names in by_reason.items():
            lines.append(f"{title} missing for {'; '.join(names)}: {why or 'the record gives no reason'}.")
    return lines
