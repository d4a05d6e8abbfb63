"""A case with its stored predictions, one label at a time, in pairs that everything scored on it shares."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Protocol

import numpy as np

from bench.metrics import Pair
from bench.results.store import RunFolder
from bench.types import Case, Dataset


class Maps(Protocol):
    """Masks or scores (L, *S), each label's given when it is asked for; an array will do."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(L, *S)."""
        ...

    def __getitem__(self, label: int, /) -> Any:
        """(*S), bool or float32."""
        ...


@dataclass(frozen=True, eq=False)
class StoredCase:
    """A case with the masks (L, *S) bool of its M draws, and their scores (L, *S) float32 where there are some.

    Elements that the case ignores leave both: False in every mask, 0 in every score. Nothing that is handed out is
    kept, so that memory does not grow with the number of labels.
    """

    id: str
    group: str
    reference: Maps
    masks: Sequence[Maps]
    scores: Sequence[Maps] | None = None
    spacing_mm: tuple[float, ...] | None = None
    ignored: np.ndarray | None = None

    @classmethod
    def of(cls, case: Case, masks: Sequence[Maps], scores: Sequence[Maps] | None = None) -> StoredCase:
        """A case, without its image, and M predictions of it."""
        return cls(case.id, case.group, case.reference, masks, scores, case.spacing_mm, case.ignored)

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, L, *S)."""
        return (len(self.masks), *self.reference.shape)

    @cached_property
    def n_ignored(self) -> int:
        """Elements of the case that count for nothing."""
        return 0 if self.ignored is None else int(np.count_nonzero(self.ignored))

    def mask(self, draw: int, label: int) -> np.ndarray:
        """One mask (*S) bool."""
        mask = self.masks[draw][label]
        return mask if self.ignored is None else mask & ~self.ignored

    def score(self, draw: int, label: int) -> np.ndarray:
        """The score (*S) float32 behind it, where there are scores."""
        assert self.scores is not None
        score = self.scores[draw][label]
        return score if self.ignored is None else score * ~self.ignored

    def pairs(self) -> Iterator[tuple[int, int, Pair]]:
        """Yield (draw, label index, pair), the draws of a label together; what a pair has computed goes with it."""
        draws, labels = self.shape[:2]
        for label in range(labels):
            reference = self.reference[label]
            for draw in range(draws):
                score = None if self.scores is None else self.score(draw, label)
                yield draw, label, Pair(self.mask(draw, label), reference, self.spacing_mm, score, self.n_ignored)

    def reference_digest(self) -> str:
        """sha256 of the reference, by content."""
        ignored = [np.packbits(self.ignored)] if self.ignored is not None and self.n_ignored else []
        words = (self.id, self.reference.shape, self.spacing_mm)
        return _digest(words, chain(_bits(self.reference[label] for label in range(self.shape[1])), ignored))

    def predictions_digest(self) -> str:
        """sha256 of the masks and scores of all draws, by content."""
        places = list(np.ndindex(*self.shape[:2]))
        scores = (self.score(*place) for place in (places if self.scores is not None else ()))
        return _digest((self.id, self.shape), chain(_bits(self.mask(*place) for place in places), scores))


def _bits(masks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """What np.packbits makes of all masks behind one another, in pieces."""
    rest = np.zeros(0, bool)
    for mask in masks:
        flat = np.concatenate([rest, mask.ravel()]) if len(rest) else mask.ravel()
        whole = len(flat) // 8 * 8
        yield np.packbits(flat[:whole])
        rest = flat[whole:]
    yield np.packbits(rest)


def _digest(words: Any, arrays: Iterable[np.ndarray]) -> str:
    sha256 = hashlib.sha256(repr(words).encode())
    for array in arrays:
        sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


def read_case(folder: RunFolder, dataset: Dataset, case_id: str, draws: int) -> StoredCase:
    """A test case with a run's predictions; raises InputError naming a broken file."""
    scores, masks = zip(*(folder.read_prediction(draw, case_id) for draw in range(draws)), strict=True)
    return StoredCase.of(dataset.case(case_id), masks, scores)
