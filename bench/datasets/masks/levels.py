"""Which values the files of a folder hold, and what their pattern says: ids, soft edges, or neither."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bench.datasets.masks.declared import COLOUR

Pattern = Literal["ids", "soft", "noise", "unclear"]
FAINTEST = 48  # of 255: below it black
_LIGHT = 208  # of 255: from here white
_MOST_MID_GREY = 0.05  # share of the elements of a folder, where edges are soft
_MOST_LOOSE = 0.02  # share of the elements that are not 0, where values are ids
_SOLID = 0.25  # share of a value's elements whose neighbours all have it, from which on it fills areas
_MANY = 6  # so many values that fill no area are no thin structures
_NEAR = 7  # of 255: so far from black and white are the rests that compression leaves


@dataclass
class Levels:
    """Elements per value of some masks, how many of them lie inside an area of that value, and the files by corner.

    `solid` is only filled by `with_areas`. `corners`: files whose corners all hold one value while others occur, by
    that value; `mixed` counts the other files of more than one value. `by_file`: the values above 0 by file name.
    `halved` counts files of fractions, which became 0 and 1.
    """

    counts: Counter[int] = field(default_factory=Counter)
    solid: Counter[int] = field(default_factory=Counter)
    corners: Counter[int] = field(default_factory=Counter)
    mixed: int = 0
    by_file: dict[str, tuple[int, ...]] = field(default_factory=dict)
    halved: int = 0

    @property
    def full(self) -> int:
        """The value of white: 255, or 65535 where larger ones occur."""
        return 255 if max((v for v in self.counts if v < COLOUR), default=0) <= 255 else 65535


def levels_of(plane: np.ndarray, name: str, areas: bool = False) -> Levels:
    """The levels of one mask (*S); with `areas` also how much of each value lies inside an area."""
    counts = _count(plane)
    corners = set(plane[tuple(np.ix_(*[[0, -1]] * plane.ndim))].ravel().tolist())
    one = len(counts) > 1 and len(corners) == 1
    present = tuple(sorted(v for v in counts if v))
    levels = Levels(counts, Counter(), Counter(corners if one else ()), int(len(counts) > 1 and not one))
    levels.by_file[name] = present
    if areas:
        inner = plane[..., 1:-1, 1:-1]
        same = (inner == plane[..., :-2, 1:-1]) & (inner == plane[..., 2:, 1:-1])
        same &= (inner == plane[..., 1:-1, :-2]) & (inner == plane[..., 1:-1, 2:])
        levels.solid = _count(inner[same])
    return levels


def sum_levels(parts: Iterable[Levels]) -> Levels:
    """The levels of several masks together."""
    total = Levels()
    for part in parts:
        total.counts += part.counts
        total.solid += part.solid
        total.corners += part.corners
        total.mixed += part.mixed
        total.by_file |= part.by_file
        total.halved += part.halved
    return total


def _count(plane: np.ndarray) -> Counter[int]:
    if plane.dtype not in (np.uint8, np.uint16):
        return Counter(dict(zip(*(x.tolist() for x in np.unique(plane, return_counts=True)), strict=True)))
    size = 256 if plane.dtype == np.uint8 else 65536
    total = np.zeros(size, np.int64)
    for part in plane if plane.ndim > 2 else [plane]:  # bincount copies to 64 bit: slice by slice
        total += np.bincount(part.ravel(), minlength=size)
    return Counter({int(v): int(total[v]) for v in np.flatnonzero(total)})


def wants_areas(levels: Levels) -> bool:
    """Whether the values alone do not tell ids from greys."""
    greys = [v for v in levels.counts if 0 <= v < COLOUR]
    scale = levels.full / 255
    return len(levels.counts) > 2 and (len(levels.counts) > 32 or max(greys, default=0) >= _LIGHT * scale)


def pattern(levels: Levels) -> Pattern:
    """What the values of a folder look like, from how much of each fills areas.

    "soft": nearly black and white, with the greys that resizing or lossy compression leaves at outlines; "noise":
    many values that fill no area, as in a photograph, a score, or a label map that was resized or compressed;
    "unclear": few of those, which may be thin structures as well; otherwise "ids".
    """
    scale = levels.full / 255
    values = [v for v in levels.counts if v != 0]
    loose = {v for v in values if levels.solid[v] < _SOLID * levels.counts[v]}
    mid = [v for v in values if FAINTEST * scale <= v < _LIGHT * scale]
    light = [v for v in values if _LIGHT * scale <= v <= levels.full]
    total, nonzero = sum(levels.counts.values()), sum(levels.counts[v] for v in values)
    share_mid = sum(levels.counts[v] for v in mid) / total
    both_ends = bool(light) and bool(mid or len(light) > 1)
    near = both_ends and all(v <= _NEAR * scale or v >= (255 - _NEAR) * scale for v in values)
    if not loose:
        return "unclear" if near else "ids"
    if both_ends and loose.issuperset(mid) and share_mid <= _MOST_MID_GREY and (len(loose) >= _MANY or near):
        return "soft"
    if len(loose) >= _MANY and sum(levels.counts[v] for v in loose) > _MOST_LOOSE * nonzero:
        return "noise"
    return "unclear" if both_ends else "ids"
