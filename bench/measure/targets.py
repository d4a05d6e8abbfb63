"""Calls whose memory is measured in a process of their own, which for that reason imports little."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.build import build_segmenter
from bench.seeding import CaseGenerator
from bench.types import Segmenter, TaskSpec

_LEAST_SLICES = 32


def slices_per_call(segmenter: Segmenter, config: dict[str, Any]) -> int:
    """Slices of a volume that a call of a three-dimensional method is shown: the window's, at least 32; else 1."""
    if segmenter.dims != 3:
        return 1
    return max(_LEAST_SLICES, (config.get("window") or [0])[0])


def predict_call(segmenter: Segmenter, task: TaskSpec, batch: int, slices: int = 1) -> Callable[[], object]:
    """A call that predicts `batch` images of the task's size, or for a 3-D method blocks of `slices` slices."""
    shape = (batch, task.channels, *([slices] if segmenter.dims == 3 else []), *task.image_size)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return lambda: segmenter.predict(image, [CaseGenerator(0, f"timing-{i}", 0) for i in range(batch)])


def predict_target(argument: dict[str, Any]) -> Callable[[], object]:
    """Predict one image with the fitted method; `argument` holds its "config", "task" and "model" folder."""
    task = TaskSpec.of(argument["task"])
    segmenter = build_segmenter(argument["config"], task)
    segmenter.load(Path(argument["model"]))
    return predict_call(segmenter, task, 1, slices_per_call(segmenter, argument["config"]))


def train_target(argument: dict[str, Any]) -> Callable[[], object]:
    """Two training steps of the method's own batch size on random data."""
    task, config = TaskSpec.of(argument["task"]), argument["config"]
    recipe = {**config["method"]["recipe"], "steps": 2, "workers": 0}
    segmenter = build_segmenter({**config, "method": {**config["method"], "recipe": recipe}}, task)
    size = (*([slices_per_call(segmenter, config)] if segmenter.dims == 3 else []), *task.image_size)
    items = _random_items(task, size, recipe.get("batch_size", 1))

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            segmenter.fit(items, items[:1], Path(folder))

    return call


def _random_items(task: TaskSpec, size: tuple[int, ...], count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.rand((task.channels, *size), generator=generator) * 2 - 1,
            "mask": torch.rand((len(task.labels), *size), generator=generator) > 0.8,
            "case_id": str(i),
        }
        for i in range(count)
    ]
