"""Files bound by their content to what names them: a damaged, edited or exchanged one is refused by its name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.errors import InputError
from bench.files import sha256_of

# What `fit` leaves that prediction does not read: it marks the end, serves resuming, is for people, or goes on growing.
_UNREAD = {"fit.json", "training.pt", "best.pt", "README.md"}
_LOGS = {".log", ".jsonl"}


def seal(paths: Iterable[Path], root: Path) -> dict[str, str]:
    """sha256 of files by their name below `root`; of a missing one "missing"."""
    return {
        path.relative_to(root).as_posix(): sha256_of(path) if path.is_file() else "missing" for path in sorted(paths)
    }


def fitted_files(model: Path) -> Iterator[Path]:
    """The files of a fitted model that `load` may read."""
    for path in model.rglob("*") if model.is_dir() else ():
        hidden = any(part.startswith(".") for part in path.relative_to(model).parts)
        if path.is_file() and not hidden and path.name not in _UNREAD and path.suffix not in _LOGS:
            yield path


def broken(sealed: dict[str, str], root: Path) -> Path | None:
    """The first file below `root` that is missing or is not what was sealed."""
    for name, digest in sealed.items():
        path = root / name
        if (sha256_of(path) if path.is_file() else "missing") != digest:
            return path
    return None


def check_seals(sealed: dict[str, str], root: Path, remedy: str) -> None:
    """InputError naming the first broken file and the remedy."""
    if (path := broken(sealed, root)) is not None:
        what = "damaged, or not the file that this run left" if path.is_file() else "missing"
        raise InputError(f"{path}: {what} (its sha256 is another); {remedy}")


def predictions_digest(paths: Iterable[Path], root: Path) -> str:
    """One sha256 of files by name and content, in any order."""
    lines = sorted(f"{name} {digest}\n" for name, digest in seal(paths, root).items())
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
