"""The entry points of installed packages, read again only when a package has come or gone."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from functools import lru_cache


def entry_points(group: str) -> importlib.metadata.EntryPoints:
    """Those of a group. `importlib.metadata` alone reads the files of all packages for every question."""
    return _of_group(group, tuple((place, _changed(place)) for place in sys.path))


@lru_cache(maxsize=16)
def _of_group(group: str, _: tuple[tuple[str, int], ...]) -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group=group)


def _changed(place: str) -> int:
    """When a folder last got or lost an entry; 0 where there is none."""
    try:
        return os.stat(place or ".").st_mtime_ns
    except OSError:
        return 0
