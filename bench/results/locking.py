"""One process at a time in a results folder: the second waits and says for whom, a killed one leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from bench import progress
from bench.errors import InputError, RunError
from bench.files import sweep_parts

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_POLL_S = 0.25
# No lock, but the writer that comes next says it better.
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
_held: dict[Path, int | None] = {}  # descriptors of this process by folder, None where it could not be locked


@contextmanager
def locked(folder: Path, below: bool = False) -> Iterator[None]:
    """Hold `folder` against other processes; inside it the same process may lock it again.

    The system frees the lock of a process that ends, however it ends. Where a folder cannot be locked (some network
    file systems) a note says so. What killed processes left half written is swept, with `below` in sub-folders too.
    Started by torchrun, the first process holds the lock for all and does not wait. Raises InputError where the folder
    cannot be made, RunError where others hold it and waiting would stop the other processes of a group.
    """
    place = folder.resolve()
    if place in _held or os.environ.get("RANK", "0") != "0":
        yield
        return
    made = _make(folder)
    descriptor = None
    try:
        descriptor = _held[place] = _take(folder, made)
        sweep_parts(folder, below)
        yield
    finally:
        _held.pop(place, None)
        if descriptor is not None:
            # While it is still ours: whoever waits for this file sees that it is no longer the folder's.
            (folder / LOCK).unlink(missing_ok=True)
            os.close(descriptor)
        for path in made:
            try:
                path.rmdir()
            except OSError:
                break


def held(folder: Path) -> bool:
    """Whether another process works in a results folder now."""
    if folder.resolve() in _held or fcntl is None:
        return False
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _make(folder: Path) -> list[Path]:
    """Make a folder; those that were missing, the deepest first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    return missing


def _take(folder: Path, made: list[Path]) -> int | None:
    """A descriptor that holds the lock, None where the file system has none; `made` grows by folders made again."""
    path, told = folder / LOCK, False
    while True:
        descriptor = None
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            _flock(descriptor)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                _sign(descriptor)
                return descriptor
        except BlockingIOError:
            told = told or _tell(folder, path)
            time.sleep(_POLL_S)
        except FileNotFoundError:  # its owner has just removed it
            if not folder.is_dir():
                made += _make(folder)
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            if error.errno not in _UNWRITABLE:
                progress.note(f"{folder}: cannot be locked ({error.strerror}); let no other process work in it")
            return None
        if descriptor is not None:
            os.close(descriptor)


def _flock(descriptor: int) -> None:
    if fcntl is None:
        raise OSError(0, "no locks on this system")
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sign(descriptor: int) -> None:
    owner = {"pid": os.getpid(), "host": platform.node(), "since": time.time()}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(owner).encode(), 0)


def _tell(folder: Path, path: Path) -> bool:
    who = _owner(path)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError(f"{folder}: {who} works here; wait for its end, or stop it")
    progress.note(f"{folder}: waiting, {who} works here")
    return True


def _owner(path: Path) -> str:
    """Who holds a lock and for how long, in words."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        age = timedelta(seconds=max(0, round(time.time() - owner["since"])))
        return f"process {owner['pid']} on {owner['host']} (for {age})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _forget() -> None:
    # A forked worker that outlives this process must not keep its locks.
    for descriptor in _held.values():
        if descriptor is not None:
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
