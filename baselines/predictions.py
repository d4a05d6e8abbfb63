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

    model, device = None, torch.device("cpu")
    evaluations = 0
    samples = 1

    def __init__(
        self,
        root: Path,
        scores: Path | None,
        task: Any,
        find: Callable[..., Any],
        open_masks: Callable[..., Any],
        read_score: Callable[..., Any],
        resample: bool = False,
    ) -> None:
        self.dims, self._resample = task.dims, resample
        self._masks = _Draws("root", root, find)
        self._reader = open_masks(root, self._masks.files(), task)
        self._read_score = partial(read_score, labels=len(task.labels))
        self._scores = None if scores is None else _Draws("scores", scores, find)
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

        Generators name case, draw and the case's grid. Raises ValueError where a file or a draw is missing, or is not
        on that grid.
        """
        masks = self._stack(self._masks, self._reader.read, generators)
        if self._scores is None:
            return Prediction(masks.float(), masks)
        return Prediction(self._stack(self._scores, self._read_score, generators), masks)

    def _stack(self, draws: _Draws, read: Callable[..., np.ndarray], generators: Sequence[Any]) -> torch.Tensor:
        return torch.stack(
            [
                torch.from_numpy(read(draws.file(g.case_id, g.draw), onto=g.onto._replace(resample=self._resample)))
                for g in generators
            ]
        )

    def describe(self) -> dict[str, str]:
        """How the masks are read."""
        return {"masks": self._reader.text()}


class _Draws:
    """Files by case of every draw of one folder; `option` is what names it."""

    def __init__(self, option: str, root: Path, find: Callable[..., Any]) -> None:
        if not root.is_dir():
            raise ValueError(f"{root}: no such folder; method.options.{option} must hold one file per test case")
        self.root = root
        folders = sorted(p for p in root.glob("draw-*") if p.is_dir()) or [root]
        self.names = [folder.name for folder in folders if folder != root]
        self._draws: list[tuple[Path, dict[str, Path]]] = [(folder, find(folder)) for folder in folders]

    def files(self) -> list[Path]:
        return [path for _, files in self._draws for path in files.values()]

    def file(self, case_id: str, draw: int) -> Path:
        if draw >= len(self._draws):
            count = len(self._draws)
            raise ValueError(f"{self.root}: holds {count} draw{'s' * (count > 1)}; set draws={count}")
        folder, files = self._draws[draw]
        if case_id not in files:
            raise ValueError(f"{folder}: no file named {case_id}; every test case needs one")
        return files[case_id]


def predictions_segmenter(
    task: Any,
    seed: int,
    device: str,
    recipe: dict[str, Any],
    root: str,
    scores: str | None,
    labels: Any,
    mask: str,
    background: int | str,
    find: str,
    read_masks: str,
    read_score: str,
    resample: bool = False,
    suffix: str | None = None,
) -> PredictionFolder:
    """The folders `root` and `scores`, read by the functions that the configuration names.

    `resample` brings files that lie on another grid to their cases'; `suffix` ends their stems, and not the cases'.
    """
    open_masks = partial(_by_name(read_masks), labels=labels, mask=mask, background=background)
    readers = (partial(_by_name(find), ending=suffix or ""), open_masks, _by_name(read_score))
    return PredictionFolder(Path(root), Path(scores) if scores else None, task, *readers, resample)
