"""A folder of anybody's predictions as a method: nothing is trained, every mask is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdseg.labels import Prediction


def _by_name(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


class PredictionFolder:
    """Masks named like their cases, in one folder or in `draw-*` folders of repeated draws; scores likewise."""

    model = None
    evaluations = 0
    samples = 1

    def __init__(
        self,
        root: Path,
        scores: Path | None,
        task: Any,
        find: Callable[..., Any],
        read: Callable[..., Any],
        read_score: Callable[..., Any],
    ) -> None:
        # The dataset's own ids; without any, one label is a binary mask and several have the ids 1, 2, ...
        ids = getattr(task, "label_ids", ()) or (range(1, len(task.labels) + 1) if len(task.labels) > 1 else ())
        labels = dict(zip(task.labels, ids, strict=True)) if ids else None
        self.dims = task.dims
        self._masks = _Draws("root", root, find, partial(read, labels=labels))
        soft = partial(read_score, labels=len(task.labels))
        self._scores = None if scores is None else _Draws("scores", scores, find, soft)
        if self._scores is not None and self._scores.names != self._masks.names:
            raise ValueError(f"{scores}: has not the same draw-* folders as {root}; give scores of the same draws")

    def fit(self, train_data: Any, val_data: Any, workdir: Path) -> dict[str, Any]:
        """Nothing to learn."""
        workdir.mkdir(parents=True, exist_ok=True)
        return {}

    def load(self, workdir: Path) -> None:
        """Nothing to load."""

    def predict(self, image: torch.Tensor, generators: Sequence[Any]) -> Prediction:
        """Masks (B, L, *S) at the files' own size and their scores, or the masks again where no scores are given.

        Generators name case and draw. Raises ValueError where a file or a draw is missing, or two differ in size.
        """
        masks = torch.stack([torch.from_numpy(self._masks.read(g.case_id, g.draw)) for g in generators])
        if self._scores is None:
            return Prediction(masks.float(), masks)
        scores = torch.stack([torch.from_numpy(self._scores.read(g.case_id, g.draw)) for g in generators])
        if scores.shape != masks.shape:
            sizes = (" x ".join(map(str, found.shape[2:])) for found in (scores, masks))
            raise ValueError(
                "{}: the score of {} has size {}, its mask {}".format(self._scores.root, generators[0].case_id, *sizes)
            )
        return Prediction(scores, masks)


class _Draws:
    """Files by case of every draw of one folder, read by a function of the path; `option` is what names it."""

    def __init__(self, option: str, root: Path, find: Callable[..., Any], read: Callable[..., Any]) -> None:
        if not root.is_dir():
            raise ValueError(f"{root}: no such folder; method.options.{option} must hold one file per test case")
        self.root, self._read = root, read
        folders = sorted(p for p in root.glob("draw-*") if p.is_dir()) or [root]
        self.names = [folder.name for folder in folders if folder != root]
        self._draws: list[tuple[Path, dict[str, Path]]] = [(folder, find(folder)) for folder in folders]

    def read(self, case_id: str, draw: int) -> np.ndarray:
        if draw >= len(self._draws):
            count = len(self._draws)
            raise ValueError(f"{self.root}: holds {count} draw{'s' * (count > 1)}; set draws={count}")
        folder, files = self._draws[draw]
        if case_id not in files:
            raise ValueError(f"{folder}: no file named {case_id}; every test case needs one")
        return self._read(files[case_id])


def predictions_segmenter(
    task: Any,
    seed: int,
    device: str,
    recipe: dict[str, Any],
    root: str,
    find: str,
    read: str,
    scores: str | None,
    read_score: str,
) -> PredictionFolder:
    """The folders `root` and `scores`, read by the functions that the configuration names."""
    readers = (_by_name(find), _by_name(read), _by_name(read_score))
    return PredictionFolder(Path(root), Path(scores) if scores else None, task, *readers)
