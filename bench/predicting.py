"""Cases to questions that a method understands, and its answers back to the cases' own grids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bench.contract import Ask, answer, errors_of
from bench.datasets.geometry import to_method_size, to_native_size
from bench.datasets.grids import Onto
from bench.datasets.items import method_spacing
from bench.picture import Grid
from bench.seeding import CaseGenerator
from bench.types import Case, Prediction, Segmenter, TaskSpec


def predict_cases(
    segmenter: Segmenter,
    task: TaskSpec,
    cases: Sequence[Case],
    draws: Sequence[int],
    config: dict[str, Any],
    ask: Ask = answer,
) -> list[Prediction]:
    """Predictions (L, *S) at the cases' native sizes, one per (case, draw); a 2-D method gets slices.

    `ask` puts the question and checks the answer.
    """
    seed, batch = config["seed"], int(config["predict_batch_size"])

    def asked(image: torch.Tensor, generators: list[CaseGenerator]) -> Prediction:
        with errors_of(config["method"], "predict"):
            return ask(segmenter, task, image, generators)

    def generator_of(case: Case, draw: int, slice_: int | None = None) -> CaseGenerator:
        generator = CaseGenerator(seed, case.id, draw, slice_)
        grid = case.grid or Grid(case.image.shape[1:], case.spacing_mm)
        generator.onto = Onto(grid, option="method.options.resample=true")
        return generator

    predictions: list[Prediction] = []
    if task.dims == 3:
        for case, draw in zip(cases, draws, strict=True):
            image = to_method_size(case.image, task)
            if segmenter.dims == 3:
                generator = generator_of(case, draw)
                generator.spacing_mm = method_spacing(case, image.shape[1:])
                whole = asked(image[None], [generator])
                score, mask = whole.score[0], whole.mask[0]
            else:
                slices = image.transpose(0, 1)  # (D, C, H, W)
                generators = [generator_of(case, draw, z) for z in range(len(slices))]
                parts = [asked(slices[i : i + batch], generators[i : i + batch]) for i in range(0, len(slices), batch)]
                score, mask = (torch.cat(x).transpose(0, 1) for x in zip(*parts, strict=True))
            predictions.append(Prediction(*to_native_size(score, mask, case.image.shape[1:])))
        return predictions
    images = torch.stack([to_method_size(case.image, task) for case in cases])
    generators = [generator_of(case, draw) for case, draw in zip(cases, draws, strict=True)]
    together = asked(images, generators)
    return [
        Prediction(*to_native_size(score, mask, case.image.shape[1:]))
        for score, mask, case in zip(together.score, together.mask, cases, strict=True)
    ]
