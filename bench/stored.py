"""A case with its stored predictions, in pairs that everything scored on it shares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.metrics import Pair
from bench.store import RunFolder
from bench.types import Case, Dataset


@dataclass(frozen=True, eq=False)
class StoredCase:
    """A case with the masks (M, L, *S) bool of its M draws, and their scores (M, L, *S) where there are some."""

    case: Case
    masks: np.ndarray
    scores: np.ndarray | None = None

    @cached_property
    def _pairs(self) -> dict[tuple[int, int], Pair]:
        case, scores = self.case, self.scores
        return {
            at: Pair(self.masks[at], case.reference[at[1]], case.spacing_mm, None if scores is None else scores[at])
            for at in np.ndindex(*self.masks.shape[:2])
        }

    def pairs(self) -> Iterator[tuple[int, int, Pair]]:
        """Yield (draw, label index, pair), the labels of a draw together; distances once found stay with the pairs."""
        return ((draw, label, pair) for (draw, label), pair in self._pairs.items())


def read_case(folder: RunFolder, dataset: Dataset, case_id: str, draws: int) -> StoredCase:
    """A test case with a run's predictions; raises InputError naming a broken file."""
    found = [folder.read_prediction(draw, case_id) for draw in range(draws)]
    scores, masks = (np.stack(x) for x in zip(*found, strict=True))
    return StoredCase(dataset.case(case_id), masks, scores)
