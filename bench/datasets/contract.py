"""The contract of a data set, checked: its ids and splits, and of one from outside every case and group."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import progress
from bench.datasets.splitting import SPLITS, check_groups
from bench.errors import InputError
from bench.types import Case, Dataset


def check_dataset(dataset: Dataset, every_case: bool = False) -> None:
    """Let a data set look at its files, and look at its splits; with `every_case` read each case once.

    Raises InputError for an id in two splits or twice in one, a case that breaks the contract of `Case`, and a group
    in two splits.
    """
    dataset.check()
    split_of = _splits(dataset)
    group_of: dict[str, str] = {}
    for done, case_id in enumerate(split_of if every_case else (), 1):
        case = dataset.case(case_id)
        _check_case(case, case_id, dataset)
        group_of[case_id] = case.group
        progress.report("checking cases", done, len(split_of))
    check_groups("data set", {case: split_of[case] for case in group_of}, group_of)


def _splits(dataset: Dataset) -> dict[str, str]:
    """The split of every case."""
    split_of: dict[str, str] = {}
    for split in SPLITS:
        for case_id in dataset.case_ids(split):
            if not isinstance(case_id, str) or not case_id or case_id.startswith("/") or ".." in case_id.split("/"):
                raise InputError(f"data set: case id {case_id!r} in {split}; expected text that can name a file")
            if case_id in split_of:
                where = (
                    f"in both {split_of[case_id]} and {split}" if split_of[case_id] != split else f"twice in {split}"
                )
                raise InputError(f"data set: case {case_id!r} is {where}; keep it in one split, once")
            split_of[case_id] = split
    return split_of


def _check_case(case: Any, case_id: str, dataset: Dataset) -> None:
    spec = dataset.spec
    if not isinstance(case, Case) or case.id != case_id:
        given = f"one of id {case.id!r}" if isinstance(case, Case) else f"a {type(case).__name__}"
        raise InputError(f"data set: case({case_id!r}) returned {given}, expected the Case of that id")
    for name, dtype, first in (("image", np.float32, spec.channels), ("reference", np.bool_, len(spec.labels))):
        array = getattr(case, name)
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            kind = getattr(array, "dtype", type(array).__name__)
            raise InputError(f"data set: case {case_id}: {name} is {kind}, expected a {np.dtype(dtype)} array")
        if array.ndim != spec.dims + 1 or len(array) != first:
            wanted = f"({first}, {'D, ' * (spec.dims == 3)}H, W)"
            raise InputError(f"data set: case {case_id}: {name} has shape {array.shape}, expected {wanted}")
    if case.image.shape[1:] != case.reference.shape[1:]:
        raise InputError(f"data set: case {case_id}: image {case.image.shape}, reference {case.reference.shape}")
    if not np.isfinite(case.image).all():
        raise InputError(f"data set: case {case_id}: the image has values that are NaN or infinite")
