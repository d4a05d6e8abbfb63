"""The report's figures: every module here that defines `build(frame) -> Drawing | None` is one."""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from reports.figures.style import Drawing
from reports.frame import Frame

MANY = 100  # runs from which on figures are worth a process of their own


def build_figures(frame: Frame) -> list[Drawing]:
    """Draw every figure of this folder that the frame has numbers for, in the order of their names."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    drawn = [module.build(frame) for module in modules if hasattr(module, "build")]
    return sorted((drawing for drawing in drawn if drawing is not None), key=lambda drawing: drawing.name)


@contextmanager
def drawn_meanwhile(frame: Frame, many: int = MANY) -> Iterator[Callable[[], list[Drawing]]]:
    """What gives `build_figures(frame)`; of `many` runs or more another process draws while the caller goes on."""
    # A fork shares the runs that were read; elsewhere than on Linux it is not safe.
    if len(frame.all_runs) < many or sys.platform != "linux":
        yield lambda: build_figures(frame)
        return
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_draw, args=(frame, there), daemon=True)
    process.start()
    there.close()

    def drawings() -> list[Drawing]:
        try:
            drawn, warnings = here.recv()
        except EOFError:  # it came to nothing; whatever stopped it is met again here, or is not
            return build_figures(frame)
        frame.warnings.extend(line for line in warnings if line not in frame.warnings)
        return drawn

    try:
        yield drawings
    finally:
        process.kill()
        process.join()
        here.close()


def _draw(frame: Frame, there: Connection) -> None:
    with suppress(BaseException):  # nobody reads what this process might say
        there.send((build_figures(frame), frame.warnings))
