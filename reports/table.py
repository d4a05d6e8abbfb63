"""The rendered view of numbers: columns that know their direction, rows, notes, and what is best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

MISSING = "\u2013"  # en dash
Level = Literal["terminal", "page", "csv"]
_LEVELS: dict[Level, int] = {"terminal": 0, "page": 1, "csv": 2}


@dataclass(frozen=True)
class Column:
    """One column: its row key, heading, unit, direction and digits.

    `level` says where it appears: "terminal" everywhere, "page" not in the terminal, "csv" only in CSV.
    `within` names the row keys that must agree before values are ranked against each other, `value` finds the cell in
    the `Row` it is shown of, where the table does not fill it in itself.
    """

    key: str
    title: str
    unit: str = ""
    better: Literal["higher", "lower", "none"] = "none"
    digits: int = 3
    level: Level = "terminal"
    within: tuple[str, ...] = ("comparison",)
    value: Callable[[Any], Any] | None = None

    @property
    def heading(self) -> str:
        """Title with unit and arrow."""
        unit = f" ({self.unit})" if self.unit else ""
        arrow = {"higher": " ↑", "lower": " ↓", "none": ""}[self.better]
        return f"{self.title}{unit}{arrow}"


@dataclass(frozen=True)
class Table:
    """A titled table; rows are dictionaries by column key and may carry further keys for ranking.

    A row with a true "published" value is shown beside the measured ones and never ranked.
    """

    name: str
    title: str
    caption: str
    columns: list[Column]
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def shown(self, level: Level) -> list[Column]:
        """Columns that appear at a level."""
        return [column for column in self.columns if _LEVELS[column.level] <= _LEVELS[level]]

    def is_text(self, column: Column) -> bool:
        """Whether a column holds words rather than numbers; looks at every row."""
        values = [row.get(column.key) for row in self.rows]
        numbers = any(isinstance(value, (int, float, tuple)) for value in values)
        return not numbers and any(isinstance(value, str) for value in values)

    def best(self) -> set[tuple[int, str]]:
        """(row index, column key) of the best values, compared unrounded; equal values are all best.

        Nothing is best where fewer than two values are comparable or all of them are equal.
        """
        cells: set[tuple[int, str]] = set()
        for column in self.columns:
            if column.better != "none":
                for members in self._comparable(column).values():
                    cells |= {(index, column.key) for index in _best_of(members, column.better)}
        return cells

    def _comparable(self, column: Column) -> dict[tuple[Any, ...], dict[int, float]]:
        groups: dict[tuple[Any, ...], dict[int, float]] = {}
        for index, row in enumerate(self.rows):
            value = row.get(column.key)
            if row.get("published") or not isinstance(value, (int, float)) or math.isnan(value):
                continue
            # Infinite is no value to be best with, but for PSNR, where nothing differs.
            if column.unit == "dB" or value != (math.inf if column.better == "higher" else -math.inf):
                groups.setdefault(tuple(row.get(key) for key in column.within), {})[index] = float(value)
        return groups


def _best_of(values: dict[int, float], better: str) -> set[int]:
    if len(values) < 2:
        return set()
    top = max(values.values()) if better == "higher" else min(values.values())
    if all(value == top for value in values.values()):
        return set()
    return {index for index, value in values.items() if value == top}


def cell(column: Column, value: Any) -> str:
    """A value as text: numbers with the column's digits, (low, high) as an interval, nothing as a dash."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, tuple):
        low, high = value
        return MISSING if math.isnan(low) else f"[{number(low, column.digits)}, {number(high, column.digits)}]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return number(value, column.digits) if isinstance(value, float) else str(value)


def number(value: float, digits: int) -> str:
    """A number with fixed digits, or three significant ones where that would print as zero."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value != 0 and abs(value) < 0.5 * 10.0**-digits:
        return f"{value:.2g}"
    return f"{value:,.{digits}f}"
