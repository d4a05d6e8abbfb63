"""A case with its stored predictions, in pairs that everything scored on it shares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.metrics import Pair
from bench.results.store import RunFolder
from bench.types import Case, Dataset


@dataclass(frozen=True, eq=False)
class StoredCase:
    """A case with the masks (M, L, *S) bool of its M draws, and their scores (M, L, *S) where there are some.

    Elements that the case ignores leave both: False in every mask, 0 in every score.
    """

    case: Case
    masks: np.ndarray
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.case.ignored is not None:
            kept = ~self.case.ignored
            object.__setattr__(self, "masks", self.masks & kept)
            object.__setattr__(self, "scores", None if self.scores is None else self.scores * kept)

    @cached_property
    def n_ignored(self) -> int:
        """Elements of the case that count for nothing."""
        return 0 if self.case.ignored is None else int(np.count_nonzero(self.case.ignored))

    @cached_property
    def _pairs(self) -> dict[tuple[int, int], Pair]:
        case, scores = self.case, self.scores
        return {
            at: Pair(
                self.masks[at],
                case.reference[at[1]],
                case.spacing_mm,
                None if scores is None else scores[at],
                self.n_ignored,
            )
            for at in np.ndindex(*self.masks.shape[:2])
        }

    def pairs(self) -> Iterator[tuple[int, int, Pair]]:
        """Yield (draw, label index, pair), the labels of a draw together; distances once found stay with the pairs."""
        return ((draw, label, pair) for (draw, label), pair in self._pairs.items())


def read_case(folder: RunFolder, dataset: Dataset, case_id: str, draws: int) -> StoredCase:
    """A test case with a run's predictions; raises InputError naming a broken file."""
    predictions = [folder.read_prediction(draw, case_id) for draw in range(draws)]
    scores, masks = (np.stack(x) for x in zip(*predictions, strict=True))
    return StoredCase(dataset.case(case_id), masks, scores)
