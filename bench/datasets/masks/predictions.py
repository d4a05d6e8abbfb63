"""Masks that are read to be scored: in the values of their references, and refused where they mean something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.datasets.grids import Onto
from bench.datasets.masks.declared import Declared, declared, show_all
from bench.datasets.masks.doubts import naming
from bench.datasets.masks.files import MaskFiles, text_of
from bench.datasets.masks.levels import Levels
from bench.datasets.masks.rule import MaskRule
from bench.errors import InputError
from bench.types import TaskSpec

Values = Mapping[str, tuple[int, ...]]


def prediction_masks(
    where: Path, files: Sequence[Path], labels: Sequence[str], reference: Values | None, stated: Declared
) -> MaskFiles:
    """The predicted masks of a folder, one per label of the references.

    `reference`: the values that the references have for every label, None where they are binary. `stated.labels` are
    the values in the predictions where these differ. Values without a label are background here, and said. Raises
    InputError where no prediction holds a value of any label, and where binary masks mean another value.
    """
    known = stated.labels or reference
    if known is not None and stated.mask != "binary":
        missing = [name for name in labels if name not in known]
        if missing:
            raise InputError(
                f"{stated.named(_own_labels(stated))}...: no value for the label {missing[0]!r}; name all of them"
            )
        wanted = replace(stated, labels={name: known[name] for name in labels}, complete=False)
    else:
        wanted = replace(stated, labels={labels[0]: (1,)}, complete=True)
    return MaskFiles(where, files, wanted, partial(_check, stated=wanted, where=where))


class PredictedMasks:
    """The masks that a method's answers lie in, for a task; the method's options `labels`, `mask` and `background`."""

    def __init__(
        self, where: Path, files: Sequence[Path], task: TaskSpec, labels: Any, mask: str, background: int | str
    ) -> None:
        stated = declared(mask, labels, None, background, option="method.options.{}")
        values = task.label_ids or (tuple((n,) for n in range(1, len(task.labels) + 1)) if len(task.labels) > 1 else ())
        reference = dict(zip(task.labels, values, strict=True)) if values else None
        self._reading = prediction_masks(where, files, task.labels, reference, stated)

    def read(self, path: Path, onto: Onto) -> np.ndarray:
        """Mask (L, *S) bool of one file on the grid of its case."""
        return self._reading.read_onto(path, onto)[0].stack()

    def text(self) -> str:
        """How they are read, in one line."""
        return text_of(self._reading.facts())


def _check(rule: MaskRule, levels: Levels, stated: Declared, where: Path) -> None:
    held = sorted(v for v in levels.counts if v not in (stated.background, stated.ignore))
    if stated.complete:  # binary
        if rule.values is not None:
            raise InputError(_other_values(where, held, [], stated))
        return
    wanted = sorted(v for values in (stated.labels or {}).values() for v in values if v != stated.background)
    if held and not set(held) & set(wanted):
        raise InputError(_other_values(where, held, wanted, stated))


def _other_values(where: Path, held: list[int], wanted: list[int], stated: Declared) -> str:
    meant = show_all(wanted) if wanted else "1, 255 or any one colour"
    named = naming(stated, held, _own_labels(stated))
    return (
        f"{where}: predictions hold the values {show_all(held)}, references {meant}; name them as the references' "
        f"labels, {named}, or say {stated.named('mask')}binary if every value is the one label"
    )


def _own_labels(stated: Declared) -> str:
    """The option that names the values of predictions: a command that reads references too has one of its own."""
    return "pred_labels" if stated.option.startswith("--") else "labels"
