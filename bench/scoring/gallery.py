"""Raw material for the report's pictures: image, reference, every draw's mask, the mean score; worst cases first.

Of a volume it keeps as many slices as BYTES hold, around the one that shows most, at a stride that suits a page. Other
cases of a run are shown too where another run's gallery has them: the report takes the masks from the predictions.
"""

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
BYTES = 32 * 2**20  # of a volume before compression, a mask's element as a bit
LONGEST = 256  # pixels of a slice's longer side


def write_gallery(folder: RunFolder, dataset: Dataset, scores: RunScores, draws: int) -> None:
    """Write `gallery/<rank>-<case>.npz` for the worst cases and some of the middle."""
    dice = scores.values("Dice", MetricFacts()).values.sort_values(na_position="last")
    middle = len(dice) // 2
    chosen = list(dict.fromkeys([*dice.index[:WORST], *dice.index[middle : middle + OTHERS]]))
    shutil.rmtree(folder.gallery, ignore_errors=True)
    for rank, case_id in enumerate(chosen):
        case = dataset.case(case_id)
        predictions = [folder.read_prediction(draw, case_id) for draw in range(draws)]
        soft, masks = (np.stack(x) for x in zip(*predictions, strict=True))
        image = _grey(case, dataset.spec.intensity)
        content = _volume(case, image, masks) if image.ndim == 4 else _picture(case, image, soft.mean(0), masks)
        with atomic_path(folder.gallery / f"{rank:02d}-{case_id}.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, dice=dice[case_id], case=case_id, labels=list(dataset.spec.labels), **content)


def _grey(case: Case, intensity: tuple[float, float]) -> np.ndarray:
    """The image as (*S, C) uint8, C 1 or 3."""
    low, high = intensity
    grey = ((case.image.clip(low, high) - low) / (high - low) * 255).astype(np.uint8)
    return np.moveaxis(grey[: 1 if len(grey) < 3 else 3], 0, -1)


def _picture(case: Case, image: np.ndarray, score: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
    return {
        "image": np.broadcast_to(image, (*image.shape[:2], 3)),
        "reference": case.reference,
        "masks": masks,
        "score": score.astype(np.float16),
        "slice": np.asarray(-1),
    }


def _volume(case: Case, image: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
    """Image (S, H, W, C), reference (L, S, H, bits of W) and masks (M, L, S, H, bits of W) of the slices kept."""
    stride = -(-max(image.shape[1:3]) // LONGEST)
    image = image[:, ::stride, ::stride]
    reference, masks = case.reference[..., ::stride, ::stride], masks[..., ::stride, ::stride]
    # Opened at the slice with most reference, or with most prediction where there is no reference.
    area = reference.sum((0, 2, 3))
    shown = int(np.argmax(area if area.any() else masks.sum((0, 1, 3, 4))))
    of_slice = image[0].size + (reference[:, 0].size + masks[:, :, 0].size) / 8
    count = min(len(image), max(1, int(BYTES / of_slice)))
    first = min(max(0, shown - count // 2), len(image) - count)
    kept = slice(first, first + count)
    return {
        "image": image[kept],
        "reference": np.packbits(reference[:, kept], axis=-1),
        "masks": np.packbits(masks[:, :, kept], axis=-1),
        "slice": np.asarray(shown),
        "first": np.asarray(first),
        "stride": np.asarray(stride),
    }
