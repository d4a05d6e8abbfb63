"""Atomic writes: a file is whole or absent, whatever kills the process."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Machine and process: who finds a file of this name can tell whether its writer still lives.
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it, and give it the name.

    Raises OSError, one line naming the folder, where that is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".part-{_HOST}-{os.getpid()}-{path.name}")
    try:
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        except Exception as error:
            # torch and safetensors report a full disk in words of their own.
            _refuse_full(temporary, error)
            raise
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_full(temporary: Path, cause: Exception) -> None:
    try:
        with temporary.open("ab") as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in _FULL:
            reason = f"{temporary.parent}: full ({error.strerror}); make room there, then the same command goes on"
            raise OSError(reason) from cause
