"""A picture sheet: random cases with the outlines of their masks, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from bench.datasets.formats import decode
from bench.datasets.images import as_image
from bench.files import atomic_path
from bench.seeding import derive

_CASES, _COLUMNS, _TILE, _TEXT = 12, 6, 224, 16
_COLOURS = np.array([[0, 255, 160], [255, 200, 0], [0, 170, 255], [255, 80, 120], [190, 120, 255], [255, 255, 255]])


def write_sheet(path: Path, files: Mapping[str, tuple[Path, Path]], intensity: tuple[float, float]) -> None:
    """Up to 12 cases, drawn by a seeded hash of their names: (image file, file of label ids) by case id.

    `intensity` is black and white.
    """
    chosen = sorted(sorted(files, key=lambda name: derive("sheet", name))[:_CASES])
    rows = -(-len(chosen) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _TILE, rows * (_TILE + _TEXT)), "white")
    for number, name in enumerate(chosen):
        x, y = number % _COLUMNS * _TILE, number // _COLUMNS * (_TILE + _TEXT)
        sheet.paste(_tile(*files[name], intensity), (x, y))
        ImageDraw.Draw(sheet).text((x + 3, y + _TILE + 2), name, fill="black")
    with atomic_path(path) as part:
        sheet.save(part, format="PNG")


def _tile(image_path: Path, mask_path: Path, intensity: tuple[float, float]) -> Image.Image:
    picture = decode(image_path, 3)
    image, ids = as_image(picture, image_path, 3), decode(mask_path, indexed=True).values[0]
    if image.ndim == 4:  # the slice with most of the labels
        best = int((ids > 0).sum(axis=(1, 2)).argmax())
        image, ids = image[:, best], ids[best]
        if picture.affine is not None:  # front of the body up, its right on the left, as radiologists look at it
            image, ids = image[:, ::-1, ::-1], ids[::-1, ::-1]
    low, high = intensity
    image = (image - low) / (high - low) * 255
    return _outlined(np.moveaxis(image, 0, -1).clip(0, 255).astype(np.uint8), ids)


def _outlined(image: np.ndarray, ids: np.ndarray) -> Image.Image:
    """The picture (H, W, 3) in a square tile, every label's outline in its colour."""
    height, width = (max(1, round(n * _TILE / max(ids.shape))) for n in ids.shape)
    small = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    labels = np.array(Image.fromarray(ids.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST))
    for number in np.unique(labels[labels > 0]):
        label = labels == number
        small[label & ~binary_erosion(label)] = _COLOURS[(number - 1) % len(_COLOURS)]
    tile = Image.new("RGB", (_TILE, _TILE))
    tile.paste(Image.fromarray(small), ((_TILE - width) // 2, (_TILE - height) // 2))
    return tile
