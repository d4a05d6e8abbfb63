"""Atomic writes for report files: whole or absent."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
from pathlib import Path

# Machine and process: who finds a file of this name can tell whether its writer still lives.
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `path` through a temporary file in its folder; OSError where the folder cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.parent / f".part-{_HOST}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
