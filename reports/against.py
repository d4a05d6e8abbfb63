"""What changed between two reports, read from the tables that they wrote: the runs of the older one may be gone."""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reports.table import Column, Table, number
from reports.writers import to_markdown, to_text

NAME = "against"
# What names a row, in the tables that have it.
_KEYS = ("dataset", "method", "metric", "label", "convention", "steps", "samples", "steps_samples", "table", "source")
_SHOWN = 25  # changes in a terminal; the file has all
COLUMNS = [Column(key, key.capitalize()) for key in ("table", "row", "column", "old", "new")]
COLUMNS += [Column("difference", "Difference", digits=6)]
CAPTION = "Cells that differ at full precision between this report and the other, rows that came or went."

Cells = dict[str, str]
Tables = dict[str, dict[tuple[str, ...], Cells]]


class Change(NamedTuple):
    """One difference; `column` is empty where a whole row came or went."""

    table: str
    row: str
    column: str
    old: str
    new: str

    @property
    def difference(self) -> float | None:
        """New minus old; None where one of them is no number."""
        try:
            change = float(self.new) - float(self.old)
        except ValueError:
            return None
        return None if math.isnan(change) else change


@dataclass(frozen=True)
class Against:
    """All changes, the verdicts among them first."""

    changes: list[Change]
    other: str

    @property
    def flipped(self) -> list[Change]:
        """Verdicts that are others now."""
        return [change for change in self.changes if change.column == "verdict"]

    def text(self) -> str:
        """For a terminal: the first changes and how many there are."""
        left = len(self.changes) - _SHOWN
        more = [f"{left} more in {NAME}.md."] if left > 0 else []
        return to_text(self._table(self.changes[:_SHOWN], more))

    def markdown(self) -> str:
        """All of them."""
        return to_markdown(self._table(self.changes, []))

    def _table(self, changes: list[Change], more: list[str]) -> Table:
        rows = [
            {**change._asdict(), "old": _short(change.old), "new": _short(change.new), "difference": change.difference}
            for change in changes
        ]
        came, went = (sum(not change.column and bool(cell(change)) for change in self.changes) for cell in (_new, _old))
        cells = sum(bool(change.column) for change in self.changes)
        counted = f"{cells} cells differ, {came} rows came, {went} went, {len(self.flipped)} verdicts are others."
        return Table(NAME, f"Against {self.other}", CAPTION, COLUMNS, rows, [counted, *more])


def read_tables(report: Path) -> Tables:
    """The rows of every CSV table of a report folder by what names them; ValueError where there is none."""
    paths = sorted(report.glob("[!.]*.csv"))
    if not paths:
        raise ValueError(f"{report}: no table.csv inside; give the folder of a report that sdseg report wrote")
    return {path.stem: _rows(path) for path in paths}


def against(new: Tables, old: Tables, other: str) -> Against:
    """Every difference between the tables of two reports."""
    changes: list[Change] = []
    for table in sorted(new.keys() | old.keys()):
        now, before = new.get(table, {}), old.get(table, {})
        for key in [*now, *(key for key in before if key not in now)]:
            row = ", ".join(filter(None, key))
            if key not in before:
                changes.append(Change(table, row, "", "", "new row"))
            elif key not in now:
                changes.append(Change(table, row, "", "row", ""))
            else:
                changes += _cells(table, row, now[key], before[key])
    return Against(sorted(changes, key=lambda change: change.column != "verdict"), other)


def _cells(table: str, row: str, now: Cells, before: Cells) -> list[Change]:
    names = [*now, *(name for name in before if name not in now)]
    pairs = [(name, before.get(name, ""), now.get(name, "")) for name in names]
    return [Change(table, row, name, old, new) for name, old, new in pairs if old != new]


def _rows(path: Path) -> dict[tuple[str, ...], Cells]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, restkey="further", restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a table ({error}); make the report again") from error
    named: dict[tuple[str, ...], Cells] = {}
    times: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        key = tuple(str(row[name]) for name in _KEYS if row.get(name))
        times[key] += 1  # a table may show one thing twice
        named[key if times[key] == 1 else (*key, f"({times[key]})")] = {k: str(v) for k, v in row.items()}
    return named


def _short(cell: str) -> str:
    try:
        return number(float(cell), 6) if "." in cell else cell
    except ValueError:
        return cell


def _new(change: Change) -> str:
    return change.new


def _old(change: Change) -> str:
    return change.old
