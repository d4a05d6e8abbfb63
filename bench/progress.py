"""Progress of long work: anyone reports to the logger "progress", the command line decides how it looks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID

_logger = logging.getLogger("progress")


def report(task: str, done: int, total: int) -> None:
    """Say how far a task is; cheap when nobody listens."""
    _logger.info(task, extra={"done": done, "total": total})


def note(text: str) -> None:
    """Say one line that a user should read now."""
    _logger.warning(text)


class BarHandler(logging.Handler):
    """Draws a progress bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console  # not above: nobody without a terminal needs it
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Progress(
            *columns, TextColumn("{task.fields[detail]}"), console=Console(stderr=True), redirect_stdout=False
        )
        self._task: TaskID | None = None
        self._name = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Advance the bar of the record's task, opening a new one when the task changes; a note is a line above."""
        if record.levelno >= logging.WARNING:
            self._bars.console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)
            return
        name, done, total, detail = _unpack(record)
        if self._task is None or name != self._name:
            self._bars.start()
            self._task, self._name = self._bars.add_task(name, total=total, detail=detail), name
        self._bars.update(self._task, completed=done, total=total, detail=detail)
        if done >= total:
            self._task = None

    def close(self) -> None:
        """Leave the terminal in order."""
        self._bars.stop()
        super().close()


class LineHandler(logging.Handler):
    """Writes a plain line now and then: for logs and terminals that cannot redraw."""

    def __init__(self, write: Callable[[str], object], every_s: float = 20.0) -> None:
        super().__init__()
        self._write, self._every_s = write, every_s
        self._last = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Write if some seconds have passed since the last line; a note at once."""
        if record.levelno >= logging.WARNING:
            self._write(record.getMessage())
            return
        name, done, total, detail = _unpack(record)
        if time.monotonic() - self._last >= self._every_s:
            self._last = time.monotonic()
            self._write(f"{name}: {done}/{total} {detail}".rstrip())


def _unpack(record: logging.LogRecord) -> tuple[str, int, int, str]:
    fields = vars(record)
    label = getattr(logging.getLogger("progress"), "cell", "")
    return f"{label} {record.getMessage()}".strip(), fields["done"], fields["total"], fields.get("detail", "")


def label_cell(name: str) -> None:
    """Set the words that stand before every task, such as "phantom/polyp sdseg seed 0"."""
    _logger.cell = name  # type: ignore[attr-defined]


def listen(handler: logging.Handler) -> None:
    """Send progress to one handler (and to no other)."""
    for old in list(_logger.handlers):
        _logger.removeHandler(old)
        old.close()
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
