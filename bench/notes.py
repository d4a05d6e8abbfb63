"""Remarks about files that are read otherwise than they lie on disk, heard by whoever keeps a record of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Notes:
    """Remarks by kind, with the files each is true of."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, None]] = {}

    def add(self, text: str, path: Path) -> None:
        """Note once per kind and file."""
        self._files.setdefault(text, {})[str(path)] = None

    def repeat(self) -> None:
        """Tell today's listeners, who may be in another process than those of before."""
        for text, files in self._files.items():
            for path in files:
                note(text, Path(path))

    def lines(self) -> list[str]:
        """One line per kind: the file, or the first of them and how many more."""
        more = {text: f" and {len(files) - 1} more" if len(files) > 1 else "" for text, files in self._files.items()}
        return sorted(f"{next(iter(files))}{more[text]}: {text}" for text, files in self._files.items())


_listeners: list[Notes] = []


def note(text: str, path: Path) -> None:
    """Tell every listener what is so about a file."""
    for listener in _listeners:
        listener.add(text, path)


@contextmanager
def heard(notes: Notes | None = None) -> Iterator[Notes]:
    """Collect what is noted inside the block."""
    notes = Notes() if notes is None else notes
    _listeners.append(notes)
    try:
        yield notes
    finally:
        _listeners.remove(notes)
