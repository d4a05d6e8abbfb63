"""A dataset's split as a method trains on it: tensors at the method's size, slices where it is two-dimensional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bench import progress
from bench.datasets.geometry import resample_mask, to_method_size
from bench.types import Case, Dataset, TaskSpec


def method_spacing(case: Case, size: Sequence[int]) -> tuple[float, ...] | None:
    """Millimetres between the case's pixels on a grid of this size, in its order; None where the unit is the pixel."""
    if case.spacing_mm is None:
        return None
    return tuple(mm * n / m for mm, n, m in zip(case.spacing_mm, case.image.shape[1:], size, strict=True))


class TrainingItems:
    """Map-style items {"image" (C, *S), "mask" (L, *S) bool, "case_id"}, all in memory.

    Whole cases whose spacing is known have "spacing_mm" too, a length per axis of `*S`.
    """

    def __init__(self, dataset: Dataset, split: str, dims: int) -> None:
        self._items: list[dict[str, Any]] = []
        ids = dataset.case_ids(split)
        for i, case_id in enumerate(ids, 1):
            self._add(dataset.case(case_id), dataset.spec, dims)
            progress.report(f"reading {split} cases", i, len(ids))

    def _add(self, case: Case, task: TaskSpec, dims: int) -> None:
        image = to_method_size(case.image, task)
        reference = torch.from_numpy(case.reference)
        size = (*reference.shape[1:-2], *image.shape[-2:])
        mask = resample_mask(reference, size)
        if task.dims == dims:
            spacing = method_spacing(case, image.shape[1:])
            known = {} if spacing is None else {"spacing_mm": spacing}  # a value of None is no batch
            self._items.append({"image": image, "mask": mask, "case_id": case.id, **known})
            return
        for z in range(image.shape[1]):
            self._items.append({"image": image[:, z], "mask": mask[:, z], "case_id": f"{case.id}/{z}"})

    def suspicions(self, split: str, labels: Sequence[str]) -> list[str]:
        """Labels that occur in no mask, a line each."""
        seen = [any(bool(item["mask"][index].any()) for item in self._items) for index in range(len(labels))]
        if self._items and not any(seen):
            return [f"every mask of the {split} split is empty"]
        missing = [name for name, there in zip(labels, seen, strict=True) if not there and self._items]
        return [f"label {name} occurs in no mask of the {split} split" for name in missing]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._items[index]
