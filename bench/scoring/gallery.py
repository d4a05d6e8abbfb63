"""Raw material for the report's pictures: image, reference, every draw's mask, the mean score; worst cases first."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np

from bench.files import atomic_path
from bench.record import MetricFacts
from bench.results.store import RunFolder
from bench.scores import RunScores
from bench.types import Case, Dataset

WORST, OTHERS = 6, 2


def write_gallery(folder: RunFolder, dataset: Dataset, scores: RunScores, draws: int) -> None:
    """Write `gallery/<rank>-<case>.npz` for the worst cases and some of the middle."""
    dice = scores.values("Dice", MetricFacts()).values.sort_values(na_position="last")
    middle = len(dice) // 2
    chosen = list(dict.fromkeys([*dice.index[:WORST], *dice.index[middle : middle + OTHERS]]))
    shutil.rmtree(folder.gallery, ignore_errors=True)
    for rank, case_id in enumerate(chosen):
        predictions = [folder.read_prediction(draw, case_id) for draw in range(draws)]
        soft, masks = (np.stack(x) for x in zip(*predictions, strict=True))
        content = _picture(dataset.case(case_id), dataset, soft.mean(0), masks)
        with atomic_path(folder.gallery / f"{rank:02d}-{case_id}.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, dice=dice[case_id], case=case_id, labels=list(dataset.spec.labels), **content)


def _picture(case: Case, dataset: Dataset, score: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
    image, reference, index = case.image, case.reference, -1
    if image.ndim == 4:
        # The slice with most reference, or with most prediction where there is no reference.
        area = reference.sum((0, 2, 3))
        index = int(np.argmax(area if area.any() else masks.sum((0, 1, 3, 4))))
        image, reference = image[:, index], reference[:, index]
        score, masks = score[:, index], masks[:, :, index]
    low, high = dataset.spec.intensity
    grey = ((image.clip(low, high) - low) / (high - low) * 255).astype(np.uint8)
    rgb = np.repeat(grey, 3, axis=0) if len(grey) == 1 else grey[:3]
    return {
        "image": rgb.transpose(1, 2, 0),
        "reference": reference,
        "masks": masks,
        "score": score.astype(np.float16),
        "slice": np.asarray(index),
    }
