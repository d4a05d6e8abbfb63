"""Gallery files as pictures: image, reference, prediction, and where the draws disagree."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from reports.figures.style import colour
from reports.frame import Frame
from reports.rows import Run

SMALLEST, LARGEST = 192, 288  # pixels of the longer side on the page
_KEYS = ("image", "reference", "masks", "dice", "slice", "case", "labels")


@dataclass(frozen=True)
class Panel:
    """One picture with its heading and its description for those who cannot see it."""

    title: str
    alt: str
    uri: str


@dataclass(frozen=True)
class Picture:
    """One case in four panels; `dice` is its mean over labels and draws, NaN where undefined."""

    case: str
    dice: float
    slice: int
    panels: list[Panel]
    width: int
    height: int


@dataclass(frozen=True)
class Gallery:
    """The pictures of one data set and method, worst case first, with the colour of every label."""

    dataset: str
    method: str
    seed: int
    labels: list[tuple[str, str]]
    pictures: list[Picture]


def read_galleries(frame: Frame, warnings: list[str]) -> list[Gallery]:
    """One gallery per data set and method, of its lowest seed with pictures; broken files become warnings."""
    galleries = []
    for row in frame.rows:
        for run in sorted(row.runs, key=lambda run: run.record.seed):
            pictures = _pictures(run, row.method, warnings)
            if pictures:
                labels = [(name, colour(index)) for index, name in enumerate(run.record.labels)]
                galleries.append(Gallery(row.dataset, row.method, run.record.seed, labels, pictures))
                break
    return galleries


def _pictures(run: Run, method: str, warnings: list[str]) -> list[Picture]:
    pictures = []
    for path in sorted((run.path / "gallery").glob("[!.]*.npz")):
        try:
            pictures.append(_picture(path, method))
        except Exception as error:
            warnings.append(f"{path}: not a gallery picture ({str(error).splitlines()[0]}), skipped")
    return pictures


def _picture(path: Path, method: str) -> Picture:
    with np.load(path, allow_pickle=False) as stored:
        absent = [key for key in _KEYS if key not in stored]
        if absent:
            raise ValueError(f"missing: {', '.join(absent)}")
        image, reference, masks = (
            stored["image"],
            stored["reference"].astype(bool),
            stored["masks"].astype(bool),
        )
        case, dice, index = str(stored["case"]), float(stored["dice"]), int(stored["slice"])
        labels = [str(label) for label in stored["labels"]]
    if image.ndim != 3 or reference.shape[1:] != image.shape[:2] or masks.shape[1:] != reference.shape:
        raise ValueError(f"shapes of image {image.shape}, reference {reference.shape}, masks {masks.shape} disagree")
    size = _page_size(*image.shape[:2])
    panels = _panels(case, method, dice, labels, image, reference, masks, size)
    return Picture(case, dice, index, panels, width=size[1], height=size[0])


def _panels(
    case: str,
    method: str,
    dice: float,
    labels: list[str],
    image: np.ndarray,
    reference: np.ndarray,
    masks: np.ndarray,
    size: tuple[int, int],
) -> list[Panel]:
    base = _resize(image, size, smooth=True)
    truth = np.stack([_resize(mask, size) for mask in reference])
    shown = np.stack([_resize(mask, size) for mask in masks[0]])
    variance = masks.mean(axis=0) * (1 - masks.mean(axis=0))  # (L, H, W), at most 1/4
    differing = float((variance > 0).any(axis=0).mean())
    heat = _resize((variance.max(axis=0) * 4 * 255).astype(np.uint8), size) / 255
    draws = len(masks)
    agreement = f"{differing:.1%} of the pixels differ between {draws} draws" if draws > 1 else "a single draw"
    score = "undefined" if math.isnan(dice) else f"{dice:.3f}"
    return [
        Panel("Image", f"Image of {case}", _uri(base)),
        Panel("Reference", f"Reference of {case}: {_areas(labels, reference)}", _uri(_overlay(base, truth))),
        Panel(
            f"Prediction, draw 1 of {draws}",
            f"Prediction of {method} for {case}: {_areas(labels, masks[0])}; Dice {score}",
            _uri(_overlay(base, shown, outline=truth)),
        ),
        Panel(
            f"Disagreement: {agreement}",
            f"Disagreement of {method} on {case}: {agreement}",
            _uri(_heat(base, heat)),
        ),
    ]


def _areas(labels: list[str], masks: np.ndarray) -> str:
    return ", ".join(f"{label} covers {mask.mean():.1%}" for label, mask in zip(labels, masks, strict=True))


def _page_size(height: int, width: int) -> tuple[int, int]:
    longest = max(height, width)
    factor = math.ceil(SMALLEST / longest) if longest < SMALLEST else min(1.0, LARGEST / longest)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _resize(array: np.ndarray, size: tuple[int, int], smooth: bool = False) -> np.ndarray:
    # Small pictures keep their pixels visible; only photographs larger than the page are smoothed.
    shrinking = size[0] < array.shape[0]
    how = Image.Resampling.LANCZOS if smooth and shrinking else Image.Resampling.NEAREST
    flat = array.astype(np.uint8) if array.dtype == bool else array
    resized = np.asarray(Image.fromarray(flat).resize((size[1], size[0]), how))
    return resized.astype(bool) if array.dtype == bool else resized


def _overlay(base: np.ndarray, masks: np.ndarray, outline: np.ndarray | None = None) -> np.ndarray:
    picture = base.astype(np.float64)
    for index, mask in enumerate(masks):
        ink = np.array([int(colour(index)[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64)
        picture[mask] = 0.6 * picture[mask] + 0.4 * ink
        picture[_contour(mask, 2)] = ink
    for mask in outline if outline is not None else ():
        # White with a dark rim shows on any image.
        picture[_contour(mask, 2)] = 0
        picture[_contour(mask, 1)] = 255
    return picture.astype(np.uint8)


def _contour(mask: np.ndarray, width: int) -> np.ndarray:
    inner = mask.copy()
    for _ in range(width):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _heat(base: np.ndarray, heat: np.ndarray) -> np.ndarray:
    grey = np.repeat(base.mean(axis=-1, keepdims=True), 3, axis=-1) * 0.55
    warm = matplotlib.colormaps["inferno"](0.25 + 0.75 * heat)[..., :3] * 255
    return np.where(heat[..., None] > 0, warm, grey).astype(np.uint8)


def _uri(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="WEBP", quality=88, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
