"""The report's tables: every module here that defines `build(frame) -> Table` is one."""

from __future__ import annotations

import importlib
import pkgutil

from reports.frame import Frame
from reports.table import Table


def build_tables(frame: Frame) -> list[Table]:
    """Build every table of this folder from a frame, in the order of their names (table1, table2, ...)."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    tables = [module.build(frame) for module in modules if hasattr(module, "build")]
    return sorted(tables, key=lambda table: table.name)
