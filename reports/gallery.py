"""What a run folder holds of a case for pictures: image, reference, and the masks of every draw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reports.rows import Run

_KEYS = ("image", "reference", "masks", "dice", "slice", "case", "labels")


@dataclass(frozen=True, eq=False)
class Kept:
    """Image (S, H, W, C) uint8, reference (L, S, H, W) and masks (M, L, S, H, W) bool of a case; a picture has S = 1.

    `dice` is the mean over labels and draws, NaN where undefined. `first` is the number of the first slice in its
    volume, -1 of a picture; `opening` is the index of the slice to begin with.
    """

    case: str
    dice: float
    labels: list[str]
    image: np.ndarray
    reference: np.ndarray
    masks: np.ndarray
    first: int = -1
    opening: int = 0


def has_predicted(run: Run, case: str) -> bool:
    """Whether every draw of a case lies in a run's folder."""
    return all(path.is_file() for path in _predictions(run, case))


def read_kept(path: Path, run: Run | None = None) -> Kept:
    """A file of a gallery, with the stored masks of another run where one is given; ValueError says what is wrong."""
    with np.load(path, allow_pickle=False) as stored:
        if absent := [key for key in _KEYS if key not in stored]:
            raise ValueError(f"missing: {', '.join(absent)}")
        image, reference, shown = stored["image"], stored["reference"], int(stored["slice"])
        masks: Any = stored["masks"] if run is None else None
        first, stride = (
            int(stored[key]) if key in stored else default for key, default in (("first", shown), ("stride", 1))
        )
        case, dice = str(stored["case"]), float(stored["dice"])
        labels = [str(label) for label in stored["labels"]]
    if image.ndim == 4:
        reference, masks = (None if x is None else _unpacked(x, image.shape[2]) for x in (reference, masks))
    else:  # a picture, or the one slice that earlier versions kept of a volume
        image, reference, masks = image[None], reference[:, None], None if masks is None else masks[:, :, None]
    if run is not None:
        dice, window = np.nan, (slice(first, first + len(image)), slice(None, None, stride), slice(None, None, stride))
        masks = np.stack([_stored_mask(path, window) for path in _predictions(run, case)])
    if image.ndim != 4 or reference.shape[1:] != image.shape[:3] or masks.shape[1:] != reference.shape:
        raise ValueError(f"shapes of image {image.shape}, reference {reference.shape}, masks {masks.shape} disagree")
    return Kept(case, dice, labels, image, reference.astype(bool), masks.astype(bool), first, max(0, shown - first))


def read_or_warn(path: Path, warnings: list[str]) -> Kept | None:
    """A file of a gallery; None where it is none, which becomes one warning."""
    try:
        return read_kept(path)
    except Exception as error:
        said = f"{path}: not a gallery picture ({(str(error).splitlines() or [type(error).__name__])[0]}), skipped"
        warnings += [said] if said not in warnings else []
        return None


def _predictions(run: Run, case: str) -> list[Path]:
    return [run.path / "predictions" / f"draw-{draw:03d}" / f"{case}.npz" for draw in range(run.record.draws)]


def _unpacked(bits: np.ndarray, width: int) -> np.ndarray:
    return np.unpackbits(bits, axis=-1, count=width)


def _stored_mask(path: Path, window: tuple[slice, slice, slice]) -> np.ndarray:
    """The part (L, S, H, W) of a stored prediction that a gallery shows."""
    with np.load(path, allow_pickle=False) as stored:
        shape = tuple(int(n) for n in stored["shape"])
        mask = np.unpackbits(stored["mask"], count=int(np.prod(shape))).reshape(shape)
    return mask[(slice(None), *window)] if mask.ndim == 4 else mask[:, None]
