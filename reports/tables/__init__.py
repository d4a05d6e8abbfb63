"""The report's tables: every module here that defines `build(frame) -> Table | None` is one."""

from __future__ import annotations

import importlib
import pkgutil

from reports.frame import Frame
from reports.table import Table


def build_tables(frame: Frame) -> list[Table]:
    """Every table of this folder that the frame has rows for, by name; where nothing was run, the empty ones."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    built = [module.build(frame) for module in modules if hasattr(module, "build")]
    tables = [table for table in built if table is not None and (table.rows or not frame.all_runs)]
    # The figures' data follow the tables.
    return sorted(tables, key=lambda table: (table.name.startswith("figure"), table.name))
