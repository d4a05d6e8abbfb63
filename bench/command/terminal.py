"""What the command prints: any character on any terminal, and quietly no more once nobody reads."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


def prepare_output() -> None:
    """A character that the terminal's encoding lacks becomes a question mark, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(text: str) -> None:
    """Print a result."""
    _print(text, sys.stdout)


def complain(text: str) -> None:
    """Print an error, a warning or a note, on one line."""
    _print(" ".join(text.split()), sys.stderr)


def _print(text: str, stream: TextIO) -> None:
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # `| head` has read enough; work and exit code go on, and the interpreter's last flush finds no broken pipe.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
