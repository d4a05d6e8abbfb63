"""Atomic writes: a file is whole or absent, whatever kills the process."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import InputError, RunError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
T = TypeVar("T")
_DAY_S = 86400.0
# As written here and by sdseg and reports, or (older) with nothing but random letters.
_PART = re.compile(r"\.part-(?:([0-9a-f]{8})-(\d+)-|[a-z0-9_]{8}(?:\.|$))")


def part_prefix() -> str:
    """How the names of this process's half-written files and folders begin."""
    return f".part-{_HOST}-{os.getpid()}-"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it takes the name `path` when the block succeeds.

    Raises InputError where the folder cannot be written, RunError where it is full.
    """
    # The suffix stays, since writers choose the format by it.
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    temporary = path.parent / f"{part_prefix()}{secrets.token_hex(4)}{suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        if error.errno in _FULL:
            raise _full(path.parent, error) from error
        raise InputError(f"{path.parent}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (InputError, RunError):
        raise
    except Exception as error:
        # Writers of tables and arrays report a full disk in words of their own.
        reason = _refusal(temporary)
        if reason is not None:
            raise _full(path.parent, reason) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def strict_json(content: Any) -> str:
    """Content as JSON text; raises ValueError for NaN and infinity, which JSON does not have."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _refusal(temporary: Path) -> OSError | None:
    """Why nothing more can be written into a file, None where more can."""
    try:
        with temporary.open("ab") as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error if error.errno in _FULL else None
    return None


def _full(folder: Path, error: OSError) -> RunError:
    return RunError(f"{folder}: full ({error.strerror}); make room there, then the same command goes on")


def read_json(path: Path, kind: type[T], remedy: str) -> T:
    """The content of a JSON file that holds a `kind`; InputError naming the file and the remedy for any other."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]}); {remedy}") from error
    if not isinstance(content, kind):
        raise InputError(f"{path}: holds no {kind.__name__}; {remedy}")
    return content


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON (no NaN) atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(strict_json(content), encoding="utf-8")


def digest(content: Any) -> str:
    """sha256 of JSON-able content, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep_parts(folder: Path, below: bool = False) -> None:
    """Remove what killed processes of this machine left half written in a folder, and what anybody left a day ago."""
    for part in folder.rglob(".part-*") if below else folder.glob(".part-*"):
        name = _PART.match(part.name)
        try:
            written = part.lstat().st_mtime
            gone = name and (_owner_is_gone(name[1], name[2], written) or time.time() - written > _DAY_S)
            if gone and part.is_file():
                part.unlink()
            elif gone and name and name[1] and part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
        except OSError:  # gone meanwhile, or somebody else's
            continue


def _owner_is_gone(host: str | None, pid: str | None, written: float) -> bool:
    if host != _HOST or pid is None:
        return False
    import psutil  # not above: most commands write nothing

    try:
        # A process that began later only has the number of the one that wrote.
        return psutil.Process(int(pid)).create_time() > written + 1
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
