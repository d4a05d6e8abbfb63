"""Kills at every write: what a killed command leaves, and what the same command makes of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.results.locking import LOCK

OPERATIONS = ((os, "replace"), (os, "rename"), (os, "link"), (os, "unlink"), (shutil, "rmtree"))


class Killed(BaseException):
    """Ends the process, as far as the code under test can tell."""


def killed_at(patch: pytest.MonkeyPatch, count: int) -> list[str]:
    """Let the file system end the process right before its change number `count`; the list fills with the changes."""
    done: list[str] = []

    def stopping(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if Path(arguments[0]).name == LOCK:  # the system itself frees the lock of a process that ends
                return change(*arguments, **options)
            if len(done) >= count:
                raise Killed
            done.append(f"{name} {arguments[0]}")
            return change(*arguments, **options)

        return call

    for module, name in OPERATIONS:
        patch.setattr(module, name, stopping(name, getattr(module, name)))
    return done


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but half-written ones."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".part-" not in str(path))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
