"""A folder of anybody's predictions as a method: nothing is trained, every mask is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """Masks named like their cases, in one folder or in `draw-*` folders of repeated draws."""

    model = None
    evaluations = 0
    samples = 1

    def __init__(self, root: Path, task: Any, find: Callable[..., Any], read: Callable[..., Any]) -> None:
        if not root.is_dir():
            raise ValueError(f"{root}: no such folder; method.options.root must hold one mask per test case")
        self.dims, self._read, self._root = task.dims, read, root
        # The dataset's own ids; without any, one label is a binary mask and several have the ids 1, 2, ...
        ids = getattr(task, "label_ids", ()) or (range(1, len(task.labels) + 1) if len(task.labels) > 1 else ())
        self._labels = dict(zip(task.labels, ids, strict=True)) if ids else None
        folders = sorted(p for p in root.glob("draw-*") if p.is_dir()) or [root]
        self._draws: list[tuple[Path, dict[str, Path]]] = [(folder, find(folder)) for folder in folders]

    def fit(self, train_data: Any, val_data: Any, workdir: Path) -> dict[str, Any]:
        """Nothing to learn."""
        workdir.mkdir(parents=True, exist_ok=True)
        return {}

    def load(self, workdir: Path) -> None:
        """Nothing to load."""

    def predict(self, image: torch.Tensor, generators: Sequence[Any]) -> Prediction:
        """Masks (B, L, *S) at the files' own size; the score is the mask. Generators name case and draw.

        Raises ValueError where a mask or a draw is missing.
        """
        masks = torch.stack([torch.from_numpy(self._mask(g.case_id, g.draw)) for g in generators])
        return Prediction(masks.float(), masks)

    def _mask(self, case_id: str, draw: int) -> np.ndarray:
        if draw >= len(self._draws):
            count = len(self._draws)
            raise ValueError(f"{self._root}: holds {count} draw{'s' * (count > 1)}; set draws={count}")
        folder, files = self._draws[draw]
        if case_id not in files:
            raise ValueError(f"{folder}: no mask named {case_id}; every test case needs one")
        return self._read(files[case_id], self._labels)


def predictions_segmenter(
    task: Any, seed: int, device: str, recipe: dict[str, Any], root: str, find: str, read: str
) -> PredictionFolder:
    """The folder `root`, read by the functions that the configuration names."""
    return PredictionFolder(Path(root), task, _by_name(find), _by_name(read))
