"""The report's tables: every module here that defines `build(frame) -> Table | None` is one."""

from __future__ import annotations

import importlib
import pkgutil

from reports.frame import Frame
from reports.table import Table

# As a reader asks: what, how good, is it real, where does it fail, how dear, how stable, and against what was printed.
ORDER = (
    "verdicts",
    "table1",
    "table2",
    "table3",
    "labels",
    "ranking",
    "errors",
    "table4",
    "table5",
    "variance",
    "conventions",
    "table6",
    "noise",
    "claims",
    "later",
)


def build_tables(frame: Frame) -> list[Table]:
    """Every table of this folder that the frame has rows for, in ORDER; where nothing was run, the empty ones."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    built = [module.build(frame) for module in modules if hasattr(module, "build")]
    tables = [table for table in built if table is not None and (table.rows or not frame.all_runs)]
    # The figures' data follow the tables.
    return sorted(tables, key=lambda t: (ORDER.index(t.name) if t.name in ORDER else len(ORDER), t.name))
