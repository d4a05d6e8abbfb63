"""Printed numbers as rows of tables, flagged and out of every ranking."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from reports.published.ledger import Published, same_dataset
from reports.published.lint import Finding, lint


def published_rows(
    dataset: str,
    entries: Iterable[Published],
    notes: list[str],
    what: str = "Published",
    protocols: Collection[str] = (),
) -> list[dict[str, Any]]:
    """A flagged row for every method that the entries have on a data set.

    A number is comparable where runs have these `protocols` and no others; the reasons of the flags, and what the
    lint finds among the entries shown, go to `notes`.
    """
    here = [entry for entry in entries if same_dataset(dataset, entry.dataset)]
    findings = lint(here)
    rows: dict[str, dict[str, Any]] = {}
    for entry in here:
        if entry.metric in rows.get(entry.method, {}):
            continue
        flag = "not comparable"
        if protocols and all(entry.comparable_with(protocol) for protocol in protocols):
            flag = "comparable"
        label = f"{entry.method} [published, {', '.join([flag, *marks(entry.method, findings)])}]"
        row = {"dataset": dataset, "method": label, "published": True, "protocol": entry.protocol}
        row = rows.setdefault(entry.method, row)
        # "~48" is not 48.000
        row[entry.metric] = entry.printed if entry.printed.startswith("~") else entry.as_measured
        if protocols:
            row["cases"] = entry.n
        _add(f"{what} on {dataset}: {flag}: {entry.why}.", notes)
    for finding in findings:
        _add(f"{what} on {dataset}, {finding.entries[0].method}: {finding.kind}: {finding.text}.", notes)
    return list(rows.values())


def marks(method: str, findings: Iterable[Finding]) -> list[str]:
    """What the lint finds of a method's numbers, in a word each."""
    return sorted({finding.kind for finding in findings if any(e.method == method for e in finding.entries)})


def _add(note: str, notes: list[str]) -> None:
    if note not in notes:
        notes.append(note)
