"""The words the harness speaks: cases, batches, predictions, tasks, and the three contracts around them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from bench.picture import Grid


@dataclass(frozen=True)
class TaskSpec:
    """What a dataset tells a method.

    `image_size` is the in-plane size (H, W) a method works at; cases may be of any other size.
    `intensity` is the range of native values (grey levels, HU) that maps to [-1, 1]; values beyond are clipped,
    unless `clip` is False.
    `orientation` says how volumes are turned on reading, "" where they are taken as stored. `ranges`:
    what the values of images for training may be (`bench.datasets.intensity`), empty where that is not known.
    """

    channels: int
    labels: tuple[str, ...]
    image_size: tuple[int, int]
    dims: int
    intensity: tuple[float, float] = (0.0, 255.0)
    label_ids: tuple[tuple[int, ...], ...] = ()  # the values of each label in a label map; empty for a binary mask
    orientation: str = ""
    ranges: tuple[str, ...] = ()
    clip: bool = True

    def facts(self) -> dict[str, Any]:
        """The task as plain values, for `config.yaml`."""
        return json.loads(json.dumps(vars(self)))

    @classmethod
    def of(cls, facts: dict[str, Any]) -> TaskSpec:
        """The task that `config.yaml` states."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
        # Runs made earlier have one number per label.
        ids = tuple(tuple(v) if isinstance(v, list | tuple) else (v,) for v in values.pop("label_ids", ()))
        return cls(**values, label_ids=ids)


@dataclass(frozen=True)
class Case:
    """One scoring unit: an image or a whole volume, in native values and at native size.

    `*S` is (H, W) or (D, H, W); `spacing_mm` is in the order of `*S`, or None where the unit is the pixel.
    """

    id: str
    group: str
    image: np.ndarray  # (C, *S) float32, native values
    reference: np.ndarray  # (L, *S) bool, one channel per label
    spacing_mm: tuple[float, ...] | None = None
    ignored: np.ndarray | None = None  # (*S) bool, elements that no metric sees; the reference is False there
    grid: Grid | None = None  # of its file, where it has one


class Prediction(NamedTuple):
    """What a method answers: a soft score and its own decision; any object with these two tensors will do."""

    score: torch.Tensor  # (B, L, *S) float in [0, 1]
    mask: torch.Tensor  # (B, L, *S) bool


class Dataset(Protocol):
    """A source of cases with fixed splits "train", "val" and "test".

    No case lies in two splits, and no group. An entry point of `sdseg.datasets` names a class or a function that
    makes one; its arguments are set by `dataset.KEY=VALUE`.
    """

    spec: TaskSpec

    def __hash__(self) -> int: ...

    def case_ids(self, split: str) -> list[str]:
        """The cases of a split, which name files of results: text without `..`."""
        ...

    def case(self, case_id: str) -> Case: ...

    def check(self) -> None:
        """Look at every file up front; raises InputError naming the first bad one."""
        ...

    def fingerprint(self) -> dict[str, str]:
        """Hashes of the data and of the split ("data", "split"), for the record."""
        ...


class Segmenter(Protocol):
    """A method under test. `dims` is 2 or 3: a 2-D method on a volume gets its slices.

    `model` is its network (None where there is none), `evaluations` the network calls per sample and `samples`
    the samples drawn per prediction. With `device` (a torch.device, or its name) it says where it computes; without,
    that is where it was told to.

    An entry point of `sdseg.methods`, or `target` of a method's file, names a class or a function that makes one. It
    is called with the keywords `task` (TaskSpec), `seed` (int), `device` ("cpu" or "cuda"), `recipe` (the section
    `train` of the configuration, see `sdseg.training.recipe`; empty where the file says so), and the method's options.

    It may have a further verb `traces(images, masks, generators) -> dict[str, np.ndarray]`: small arrays that show what
    the model has come to. Where a recipe says `keep`, the training loop asks it at these moments, about validation
    items, for the files `traces/step-*.npz` of `workdir`; `docs/own_method.md` has the names that figures know.
    """

    dims: int
    model: torch.nn.Module | None
    evaluations: int
    samples: int

    def fit(self, train: Any, val: Any, workdir: Path) -> dict[str, Any]:
        """Learn from map-style datasets of {"image" (C, *S) float32, "mask" (L, *S) bool, "case_id"}.

        Volumes of a 3-D method whose spacing is known have "spacing_mm" too; no item holds None. `workdir` exists. It
        keeps what `load` needs, and may hold what a killed call left; a state that cannot be read is a ValueError
        naming it.

        Returns facts for the record, numbers and text, or nothing. Some have a meaning: `steps`, `selected_step`,
        `train_seconds` and `train_s_per_step` of the optimiser, without reading data and validation.
        """
        ...

    def load(self, workdir: Path) -> None:
        """Take the weights that `fit` left in `workdir`.

        Called once, on a new object, before the first `predict`: also in the process that has just called `fit`.
        """
        ...

    def predict(self, image: torch.Tensor, generators: Sequence[torch.Generator]) -> Prediction:
        """Segment images (B, C, *S) in [-1, 1] on the CPU, one random generator (of the CPU) per image.

        The answer is that of each image alone, of its generator and of nothing else: it is held to that once a run.
        It may lie on any device. Without a network (`model` is None) it may have a size of its own.
        """
        ...
