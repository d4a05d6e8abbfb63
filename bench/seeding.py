"""Randomness that is derived, not drifting: one generator per (seed, case, draw)."""

from __future__ import annotations

import hashlib
from typing import Any

import torch


def derive(*parts: object) -> int:
    """A 63-bit seed from any row of printable parts."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class CaseGenerator(torch.Generator):
    """A CPU generator that knows whose noise it draws.

    Its state depends on seed, case, draw and slice alone: not on batch size, order or worker count.
    `slice` is None where the whole case is drawn at once.
    """

    case_id: str
    draw: int
    slice: int | None
    spacing_mm: tuple[float, ...] | None = None  # of a volume on the method's grid, where it is known
    onto: Any = None  # bench.datasets.grids.Onto: the case's own grid, for predictions that are read from files

    def __new__(cls, seed: int, case_id: str, draw: int, slice_: int | None = None) -> CaseGenerator:
        return super().__new__(cls)

    def __init__(self, seed: int, case_id: str, draw: int, slice_: int | None = None) -> None:
        self.case_id, self.draw, self.slice = case_id, draw, slice_
        self._origin = seed, case_id, draw, slice_
        self.manual_seed(derive("draw", seed, case_id, draw, "" if slice_ is None else slice_))

    def again(self) -> CaseGenerator:
        """A new generator in the state that this one began in."""
        copy = CaseGenerator(*self._origin)
        vars(copy).update(vars(self))
        return copy
