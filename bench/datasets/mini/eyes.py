"""REFUGE2 in small: photographs of the eye's ground with disc, cup and vessels; masks 0, 128, 255."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from bench.datasets.mini.polyps import save_picture
from bench.datasets.phantom.fields import Outline, generator, noise_pair, smoothstep

_SEED = 2018
_FIELD = 256
# Names as distributed; glaucoma first. The two cameras of the true data have 2124 x 2056 and 1634 x 1634 pixels.
_PARTS = {
    "train": ([f"g{i:04d}" for i in range(1, 5)] + [f"n{i:04d}" for i in range(1, 37)], (308, 318), ".bmp"),
    "val": ([f"V{i:04d}" for i in range(1, 21)], (244, 244), ".png"),
    "test": ([f"T{i:04d}" for i in range(1, 21)], (244, 244), ".bmp"),
}


def write_refuge2(folder: Path, cases: Collection[str] | None = None) -> None:
    """`REFUGE2/{train,val,test}/images/*.jpg` and `mask/*.bmp` or `*.png`: 40, 20 and 20 photographs."""
    for number, (part, (names, size, suffix)) in enumerate(_PARTS.items()):
        for index, name in enumerate(names):
            if cases is not None and name not in cases:
                continue
            image, levels = _draw(generator(_SEED, number, index), size, name.startswith("g"))
            home = folder / "REFUGE2" / part
            save_picture(home / "images" / f"{name}.jpg", image)
            save_picture(home / "mask" / f"{name}{suffix}", levels)


def _draw(rng: np.random.Generator, size: tuple[int, int], glaucoma: bool) -> tuple[np.ndarray, np.ndarray]:
    """Photograph (H, W, 3) uint8 and grey levels (H, W) of the mask."""
    height, width = size
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) * n / height for n in size), indexing="ij")
    side = 1 if rng.random() < 0.5 else -1
    radius = rng.uniform(0.15, 0.19)
    disc = Outline.draw(rng, side * rng.uniform(0.3, 0.5), rng.uniform(-0.12, 0.12), radius, rough=0.05)
    share = rng.uniform(0.6, 0.78) if glaucoma else rng.uniform(0.3, 0.55)  # of the disc's radius
    cup = Outline.draw(rng, disc.x + rng.normal(0, 0.012), disc.y + rng.normal(0, 0.012), radius * share, rough=0.07)
    in_disc, in_cup = disc.rho(x, y), cup.rho(x, y)
    field = _field(rng, size)
    colour = np.array([205, 95, 45], np.float32) * rng.uniform(0.8, 1.1) * (1 + 0.08 * field[0])[..., None]
    macula = np.exp(-((x + side * 0.35) ** 2 + (y - 0.05) ** 2) / 0.05)
    colour *= (1 - 0.45 * macula)[..., None]
    colour += smoothstep(1.08, 0.9, in_disc)[..., None] * np.array([35, 95, 60], np.float32)
    colour += smoothstep(1.25, 0.7, in_cup)[..., None] * np.array([12, 45, 55], np.float32)
    vessels = _vessels(rng, disc, size)
    colour *= 1 - vessels[..., None] * np.array([0.25, 0.55, 0.5], np.float32)
    eye = smoothstep(1.0, 0.97, np.hypot(x, y))
    light = 1.05 - 0.35 * np.hypot(x - rng.normal(0, 0.1), y - rng.normal(0, 0.1)) ** 2
    image = gaussian_filter(colour * (eye * light)[..., None], (0.6, 0.6, 0)) + rng.normal(0, 2.5, (height, width, 3))
    levels = np.select([(in_cup <= 1) & (in_disc <= 1), in_disc <= 1], [0, 128], 255).astype(np.uint8)
    return np.rint(image.clip(0, 255)).astype(np.uint8), levels


def _field(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Two smooth fields (2, H, W)."""
    pair = noise_pair(rng, _FIELD, 1.6)
    rows, columns = (np.linspace(0, _FIELD - 1, n).astype(int) for n in size)
    return pair[:, rows[:, None], columns]


def _vessels(rng: np.random.Generator, disc: Outline, size: tuple[int, int]) -> np.ndarray:
    """Depth of vessels (H, W) in 0..1: arcs that leave the disc above and below and turn to its side."""
    drawing = Image.new("L", size[::-1])
    pen = ImageDraw.Draw(drawing)
    along = np.linspace(0, 1, 60)
    for _ in range(int(rng.integers(10, 15))):
        up, out = rng.choice([-1, 1]), rng.choice([-1, 1], p=[0.35, 0.65]) * -np.sign(disc.x)
        bend, reach = rng.uniform(0.2, 1.1), rng.uniform(0.8, 1.4)
        x = disc.x + out * reach * along ** rng.uniform(1.1, 2.2)
        y = disc.y + up * bend * np.sin(along * rng.uniform(1.2, 2.4))
        pixels = np.stack([x * size[0] + size[1], y * size[0] + size[0]], 1) / 2
        thick = rng.uniform(0.01, 0.022) * size[0]
        for k in range(len(pixels) - 1):
            ends = [tuple(point) for point in pixels[k : k + 2].tolist()]
            pen.line(ends, fill=255, width=max(1, round(thick * (1 - 0.7 * along[k]))))
    return gaussian_filter(np.asarray(drawing, np.float32) / 255, 0.7)
