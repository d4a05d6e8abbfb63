"""The report's figures: every module here that defines `build(frame) -> Drawing | None` is one."""

from __future__ import annotations

import importlib
import pkgutil

from reports.figures.style import Drawing
from reports.frame import Frame


def build_figures(frame: Frame) -> list[Drawing]:
    """Draw every figure of this folder that the frame has numbers for, in the order of their names."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    drawn = [module.build(frame) for module in modules if hasattr(module, "build")]
    return sorted((drawing for drawing in drawn if drawing is not None), key=lambda drawing: drawing.name)
