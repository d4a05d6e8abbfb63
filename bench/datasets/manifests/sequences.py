"""The 29 sequences of CVC-ClinicDB, and how far a split by frames leaks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

# Frames of each sequence, in order; the frames are numbered 1 .. 612 through all of them.
# fmt: off
LENGTHS = (
    25, 25, 17, 11, 25, 23, 25, 26, 22,  6, 22, 25, 25, 20, 20,
    25, 21, 20, 25, 20, 19, 19, 12, 25, 25, 18, 25, 20, 21,
)
# fmt: on
_LAST = list(accumulate(LENGTHS))
FRAMES = _LAST[-1]


def cvc_sequence(frame: int | str) -> str:
    """The sequence (`sequence-01` .. `sequence-29`) of a frame 1 .. 612; raises ValueError for any other."""
    number = int(frame)
    if not 1 <= number <= FRAMES:
        raise ValueError(f"frame {frame}: CVC-ClinicDB has the frames 1 .. {FRAMES}")
    return f"sequence-{bisect_right(_LAST, number - 1) + 1:02d}"


class Leak(NamedTuple):
    """Shares of the test frames, in [0, 1]: the frame before or after is in training; the sequence is."""

    neighbour: float
    sequence: float


def leak(split_of: Mapping[str, str]) -> Leak:
    """How much of the test part training has nearly seen. Validation counts as neither."""
    test = [int(case) for case, split in split_of.items() if split == "test"]
    seen = {int(case): cvc_sequence(case) for case, split in split_of.items() if split == "train"}
    near = [any(seen.get(frame + step) == cvc_sequence(frame) for step in (-1, 1)) for frame in test]
    known = set(seen.values())
    return Leak(sum(near) / len(test), sum(cvc_sequence(frame) in known for frame in test) / len(test))
