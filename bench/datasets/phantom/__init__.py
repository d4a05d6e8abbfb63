"""Built-in datasets that need no download: cases are drawn on demand, each from its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from bench.datasets.phantom.fields import generator
from bench.datasets.phantom.organs import ORGANS, draw_abdomen
from bench.datasets.phantom.polyp import draw_scene, render
from bench.datasets.splitting import SPLITS, check_split, plane_size, split_digest
from bench.errors import InputError
from bench.files import digest
from bench.types import Case, TaskSpec

# Part of the fingerprint: raise it with any change that alters a case.
VERSION = 1
_KEPT_BYTES = 2**26


class _Phantom:
    """Case ids `split-group-frame`, so that more training cases leave the test cases alone."""

    def __init__(self, counts: Sequence[int], frames: int, parameters: dict[str, Any]) -> None:
        if min(counts) < 0 or frames < 1:
            raise InputError(f"phantom: {list(counts)} cases in groups of {frames}: expected numbers above 0")
        self._parameters = parameters
        self._places = {
            f"{split}-{i // frames:04d}-{i % frames:02d}": (k, i // frames, i % frames)
            for k, split in enumerate(SPLITS)
            for i in range(counts[k])
        }

    def case_ids(self, split: str) -> list[str]:
        """Sorted ids of a split."""
        check_split(split)
        return sorted(case for case in self._places if case.startswith(split + "-"))

    def _place(self, case_id: str) -> tuple[int, int, int]:
        """Split number, group and frame of a case; raises InputError for an unknown id."""
        if case_id not in self._places:
            raise InputError(f"case {case_id!r}: not in this phantom; see case_ids")
        return self._places[case_id]

    def fingerprint(self) -> dict[str, str]:
        """Hashes of the generator's parameters and of the split."""
        groups = {case: case.rsplit("-", 1)[0] for case in self._places}
        splits = {case: case.split("-", 1)[0] for case in self._places}
        return {"data": digest({"version": VERSION, **self._parameters}), "split": split_digest(splits, groups)}

    def check(self) -> None:
        """Nothing to read, nothing to check."""


class Polyp(_Phantom):
    """Colonoscopy-like frames (3, size, size) in 0..255, one label; a group is a short sequence of one scene.

    `empty_share` is the share of scenes of each split without a lesion, spread evenly.
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 64,
        size: int = 192,
        n_train: int = 512,
        n_val: int = 32,
        n_test: int = 64,
        sequence_length: int = 4,
        empty_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        if size < 16 or not 0 <= empty_share < 1:
            raise InputError(f"phantom: size {size}, empty_share {empty_share}: expected >= 16 and 0 <= share < 1")
        self.spec = TaskSpec(3, ("polyp",), plane_size(image_size), 2)
        self.size, self.empty_share, self.seed = size, empty_share, seed
        parameters = {"phantom": "polyp", "size": size, "empty_share": empty_share, "seed": seed}
        super().__init__((n_train, n_val, n_test), sequence_length, parameters)
        # Predicting, scoring and the gallery ask for every test case, once a method: drawn anew each time it is 9 s.
        self._drawn = lru_cache(maxsize=max(1, _KEPT_BYTES // (13 * size**2)))(self._draw)

    def case(self, case_id: str) -> Case:
        """One frame, the same whenever and in whatever order it is asked for."""
        return self._drawn(case_id)

    def _draw(self, case_id: str) -> Case:
        split, group, frame = self._place(case_id)
        # Spread evenly, so that any split holds its share to within one scene.
        empty = int((group + 1) * self.empty_share) > int(group * self.empty_share)
        scene = draw_scene(self.seed, split, group, not empty)
        image, mask = render(scene, generator(self.seed, split, group, frame + 1), self.size)
        return Case(case_id, case_id.rsplit("-", 1)[0], image, mask[None])


class Organs(_Phantom):
    """CT-like abdomens (1, *shape) in HU with five labels; every volume is its own group."""

    def __init__(
        self,
        image_size: int | Sequence[int] = 64,
        shape: Sequence[int] = (24, 96, 96),
        spacing_mm: Sequence[float] = (5.0, 3.0, 3.0),
        n_train: int = 24,
        n_val: int = 4,
        n_test: int = 8,
        absent_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        if len(shape) != 3 or min(shape) < 8 or len(spacing_mm) != 3 or min(spacing_mm) <= 0:
            raise InputError(f"phantom: shape {list(shape)}, spacing_mm {list(spacing_mm)}: expected three each")
        if not 0 <= absent_share <= 1:
            raise InputError(f"phantom: absent_share {absent_share}: expected a share between 0 and 1")
        self.spec = TaskSpec(1, ORGANS, plane_size(image_size), 3, (-175.0, 250.0))
        self.shape, self.spacing_mm = tuple(shape), tuple(float(s) for s in spacing_mm)
        self.absent_share, self.seed = absent_share, seed
        parameters = {"phantom": "organs", "absent_share": absent_share, "seed": seed}
        geometry = {"shape": self.shape, "spacing_mm": self.spacing_mm}
        super().__init__((n_train, n_val, n_test), 1, parameters | geometry)

    def case(self, case_id: str) -> Case:
        """One volume, the same whenever and in whatever order it is asked for."""
        split, group, _ = self._place(case_id)
        rng = generator(self.seed, split, group)
        image, reference = draw_abdomen(rng, self.shape, self.spacing_mm, self.absent_share)
        return Case(case_id, case_id.rsplit("-", 1)[0], image[None], reference, self.spacing_mm)
