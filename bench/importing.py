"""Names to objects: the one place that imports what a configuration names."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bench.errors import InputError, frame_of


def import_by_name(name: str) -> Any:
    """The object behind a dotted name; raises InputError naming it."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:
        frame = frame_of(error)
        reason = f"{type(error).__name__} at {frame}: {error}" if frame else str(error)
        hint = "install what it needs, or correct the name (PYTHONPATH=. finds modules of this folder)"
        raise InputError(f"{name}: cannot be imported ({reason}); {hint}") from error
