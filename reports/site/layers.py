"""Layers of a picture that a page lays over one another: the image, and masks on transparent ground.

The slices of a volume lie side by side in one mosaic, row by row, `columns` of them in a row.
"""

from __future__ import annotations

import io
import math

import matplotlib
import numpy as np
from PIL import Image

from reports.figures.style import colour

SMALLEST, LARGEST = 192, 384  # pixels of the longer side
FILL = 110  # of 255: how much a mask covers
_RIM = 1  # the palette's index of the dark rim of an outline


def page_size(height: int, width: int) -> tuple[int, int]:
    """Height and width on the page: small pictures a whole number of times enlarged, large ones reduced."""
    longest = max(height, width)
    factor = math.ceil(SMALLEST / longest) if longest < SMALLEST else min(1.0, LARGEST / longest)
    return max(1, round(height * factor)), max(1, round(width * factor))


def columns_of(slices: int) -> int:
    """How many slices of a mosaic lie side by side: a browser shows no picture of any length."""
    return math.ceil(math.sqrt(slices))


def image_layer(image: np.ndarray, size: tuple[int, int]) -> bytes:
    """A WebP of slices (S, H, W, C)."""
    # Small pictures keep their pixels visible; only photographs larger than the page are smoothed.
    how = Image.Resampling.LANCZOS if size[0] < image.shape[1] else Image.Resampling.NEAREST
    flat = image[..., 0] if image.shape[-1] == 1 else image
    slices = [np.asarray(Image.fromarray(one).resize((size[1], size[0]), how)) for one in flat]
    buffer = io.BytesIO()
    Image.fromarray(mosaic(np.stack(slices))).save(buffer, format="WEBP", quality=85, method=2)
    return buffer.getvalue()


def outline_layer(masks: np.ndarray, size: tuple[int, int]) -> bytes:
    """A PNG of the outlines of masks (L, S, H, W) in their labels' colours, with a dark rim that shows on any image."""
    ink = np.zeros((masks.shape[1], *size), np.uint8)
    for index, mask in enumerate(resized(masks, size)):
        ink[contour(mask, 3)] = _RIM
        ink[contour(mask, 2)] = 2 + index
    return _png(ink, [(0, 0, 0, 0), (0, 0, 0, 255), *(_rgba(index, 255) for index in range(len(masks)))])


def fill_layer(masks: np.ndarray, size: tuple[int, int]) -> bytes:
    """A PNG of masks (L, S, H, W) filled in their labels' colours."""
    ink = np.zeros((masks.shape[1], *size), np.uint8)
    for index, mask in enumerate(resized(masks, size)):
        ink[mask] = 1 + 2 * index
        ink[contour(mask, 1)] = 2 + 2 * index
    shades = [_rgba(index, alpha) for index in range(len(masks)) for alpha in (FILL, 255)]
    return _png(ink, [(0, 0, 0, 0), *shades])


def heat_layer(masks: np.ndarray, size: tuple[int, int]) -> bytes:
    """A PNG of where draws (M, L, S, H, W) differ: their variance, of the label where it is largest."""
    share = masks.mean(axis=0, dtype=np.float32)
    variance = (share * (1 - share)).max(axis=0)  # (S, H, W), at most 1/4
    heat = np.ceil(variance * 4 * 255).astype(np.uint8)
    warm = matplotlib.colormaps["inferno"](0.25 + 0.75 * np.arange(256) / 255) * 255
    shades = [(0, 0, 0, 0), *((int(r), int(g), int(b), 255) for r, g, b, _ in warm[1:])]
    return _png(resized(heat[None], size)[0], shades)


def resized(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Masks (..., H, W) at another size, by nearest neighbour."""
    y, x = (((np.arange(n) + 0.5) * old / n).astype(int) for n, old in zip(size, masks.shape[-2:], strict=True))
    return masks[..., y[:, None], x]


def contour(mask: np.ndarray, width: int) -> np.ndarray:
    """The rim of a mask (..., H, W), inside it; the edge of the picture is none."""
    inner = mask.copy()
    for _ in range(width):
        padded = np.pad(inner, [(0, 0)] * (mask.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
        rows = padded[..., :-2, 1:-1] & padded[..., 2:, 1:-1]
        inner = inner & rows & padded[..., 1:-1, :-2] & padded[..., 1:-1, 2:]
    return mask & ~inner


def mosaic(slices: np.ndarray) -> np.ndarray:
    """Slices (S, H, W, ...) as one picture; what is left of the last row is empty."""
    columns = columns_of(len(slices))
    rows = -(-len(slices) // columns)
    _, height, width, *rest = slices.shape
    whole = np.zeros((rows * columns, height, width, *rest), slices.dtype)
    whole[: len(slices)] = slices
    grid = whole.reshape(rows, columns, height, width, *rest).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(rows * height, columns * width, *rest))


def _rgba(index: int, alpha: int) -> tuple[int, int, int, int]:
    red, green, blue = (int(colour(index)[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue, alpha


def _png(ink: np.ndarray, palette: list[tuple[int, int, int, int]]) -> bytes:
    picture = Image.fromarray(mosaic(ink), mode="P")
    picture.putpalette([channel for shade in palette for channel in shade[:3]])
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", transparency=bytes(shade[3] for shade in palette))
    return buffer.getvalue()
