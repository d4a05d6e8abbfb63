"""The two kinds of failure a user meets: bad input (exit 2) and a run that failed (exit 3)."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Collection
from pathlib import Path

DONE, GATE_FAILED, BAD_INPUT, RUN_FAILED = 0, 1, 2, 3  # exit codes
_LONGEST = 300


class InputError(ValueError):
    """Bad input or usage: one line that names the file or key, what was expected and what to do."""


class NotApplicableError(InputError):
    """A method that cannot meet this dataset, or whose package is not installed; a matrix leaves the cell out."""


class RunError(RuntimeError):
    """A run that started on good input and failed."""


def one_line(error: BaseException) -> str:
    """What an error says, on one line; one that is not ours has its type and place, and does not fill the screen."""
    text = " ".join(str(error).split())
    if isinstance(error, InputError | RunError):
        return text
    frame = frame_of(error)
    return f"{type(error).__name__}: {shortened(text)}{f' at {frame}' if frame else ''} (SDSEG_DEBUG=1 shows where)"


def shortened(text: str) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return f"{line[:_LONGEST]}{'...' if len(line) > _LONGEST else ''}"


def frame_of(error: BaseException, files: Collection[str] = ()) -> str:
    """The last frame of an error that lies in `files`, as FILE:LINE in FUNCTION.

    Without one there, the last frame outside Python, its packages and this project; empty where there is none.
    """
    frames = [
        (os.path.realpath(frame.filename), frame)
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<")  # no file: Python's own import, or code that was made
    ]
    known = [frame for path, frame in frames if path in files] or [frame for path, frame in frames if _foreign(path)]
    if not known:
        return ""
    last = known[-1]
    return f"{last.filename.removeprefix(os.getcwd() + os.sep)}:{last.lineno} in {last.name}"


def _foreign(path: str) -> bool:
    ours = str(Path(__file__).resolve().parents[1])
    python = sysconfig.get_path("stdlib")
    inside = (f"{ours}/{name}" for name in ("bench", "sdseg", "baselines", "reports"))
    return "-packages" not in path and not path.startswith((python, *inside))
