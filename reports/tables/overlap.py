"""Table 3: Dice and IoU on the data sets on which the paper prints both."""

from __future__ import annotations

from reports.frame import Frame
from reports.table import Table
from reports.tables.accuracy import of_tables


def build(frame: Frame) -> Table | None:
    """As Table 2, for the data sets of the paper's Table 3; None where none of them was run."""
    table = of_tables(frame, "table3", "Table 3 · Dice and IoU", "3", lambda tables: "3" in tables)
    return table if table.rows else None
