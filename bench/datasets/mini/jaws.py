"""STS-3D in small: dental volumes, two arches of teeth in bone and soft tissue."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from bench import progress
from bench.datasets.mini.abdomens import save_volume
from bench.datasets.phantom.fields import generator, smoothstep

_SEED = 2023
_SIDE, _SPACING = 80, 1.0
_SLICES = {"0003": 48, "0007": 48, "0009": 72}  # the others have 32, as the true ones have 200, 300 and 705
_AIR, _SOFT, _BONE, _DENTINE, _ENAMEL = -1000.0, 60.0, 650.0, 1300.0, 2200.0


def write_sts3d(folder: Path, cases: Collection[str] | None = None) -> None:
    """`labelled/{image,label}/Teeth_XXXX_0000.nii.gz`: 12 volumes of 80 x 80."""
    affine = np.diag([_SPACING, _SPACING, _SPACING, 1.0])
    for number in range(1, 13):
        name = f"{number:04d}"
        if cases is not None and name not in cases:
            continue
        image, teeth = _draw(generator(_SEED, number), _SLICES.get(name, 32))
        for kind, values in (("image", np.rint(image).astype(np.int16)), ("label", teeth.astype(np.uint8))):
            save_volume(folder / "labelled" / kind / f"Teeth_{name}_0000.nii.gz", values, affine)
        progress.report("drawing sts3d", number, 12)


def _draw(rng: np.random.Generator, slices: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (D, H, W) in HU and teeth (D, H, W) bool."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in (slices, _SIDE, _SIDE)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    wide, deep = rng.uniform(0.55, 0.65), rng.uniform(0.75, 0.9)
    image = np.full(z.shape, _AIR, np.float32)
    image[(x / 0.9) ** 2 + ((y - 0.1) / 0.95) ** 2 < 1] = _SOFT
    # Distance from the arch y = deep * (x / wide)^2 - 0.6, across it.
    arch = deep * (x / wide) ** 2 - 0.6
    across = np.abs(y - arch) / np.sqrt(1 + (2 * deep * x / wide**2) ** 2)
    jaw = (across < 0.15) & (np.abs(x) < wide * 1.1) & (np.abs(z) > 0.32)
    image[jaw] = _BONE + 120 * gaussian_filter(rng.standard_normal(z.shape), 1.5)[jaw] * 4
    teeth = np.zeros(z.shape, bool)
    for jaw_side in (-1, 1):
        for place in np.linspace(-0.92, 0.92, 14):
            if rng.random() > 0.07:  # a lost tooth now and then
                inside, crown = _tooth(rng, z, y, x, jaw_side, float(place) * wide, deep / wide**2)
                teeth |= inside
                image[inside] = _DENTINE
                image[inside & crown] = _ENAMEL
    noise = gaussian_filter(rng.standard_normal(z.shape, dtype=np.float32), 0.7)
    return gaussian_filter(image, 0.5) + noise / noise.std() * 45, teeth


def _tooth(
    rng: np.random.Generator, z: np.ndarray, y: np.ndarray, x: np.ndarray, side: int, place: float, curve: float
) -> tuple[np.ndarray, np.ndarray]:
    """One tooth, wide at the crown and narrow at the root, and its crown; both (D, H, W) bool."""
    centre_y = curve * place**2 - 0.6 + rng.normal(0, 0.01)
    height = side * z - 0.06  # from the bite into the jaw
    tip = rng.uniform(0.5, 0.62)
    radius = rng.uniform(0.048, 0.058) + 0.012 * min(1.0, abs(place) * 2)
    width = radius * smoothstep(tip, tip * 0.35, height) + 0.35 * radius
    inside = (np.hypot(x - place, y - centre_y) < width) & (height > 0) & (height < tip)
    return inside, height < 0.17
