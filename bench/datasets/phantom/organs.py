"""CT-like abdomens in HU: body wall, spine and gas around five labelled organs of irregular shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from bench.datasets.phantom.fields import smoothstep

ORGANS = ("liver", "spleen", "kidney_left", "kidney_right", "aorta")

_AIR, _FAT, _MUSCLE, _BONE, _BOWEL = -1000.0, -100.0, 55.0, 380.0, 30.0


@dataclass(frozen=True)
class Organ:
    """An ellipsoid in body coordinates -1..1: head to foot, front to back, patient's right to left."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    rough: float  # share of the radius by which the surface wanders
    hounsfield: float


# Venous phase; radiological view, so that the liver lies on the left of the image.
_ATLAS = {
    "liver": Organ((-0.35, -0.08, -0.42), (0.52, 0.52, 0.42), 0.22, 112.0),
    "spleen": Organ((-0.42, 0.25, 0.58), (0.32, 0.27, 0.17), 0.16, 125.0),
    "kidney_left": Organ((0.18, 0.38, 0.42), (0.34, 0.17, 0.15), 0.10, 165.0),
    "kidney_right": Organ((0.28, 0.38, -0.42), (0.34, 0.17, 0.15), 0.10, 165.0),
    "aorta": Organ((0.0, 0.22, 0.07), (9.0, 0.075, 0.06), 0.02, 150.0),
}


def draw_abdomen(
    rng: np.random.Generator,
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    absent_share: float,
    atlas: Mapping[str, Organ] = _ATLAS,
) -> tuple[np.ndarray, np.ndarray]:
    """One volume: image (D, H, W) float32 in HU and reference (L, D, H, W) bool; labels never overlap.

    Each organ of the atlas but the aorta is absent with probability `absent_share` (removed, or outside the scan).
    """
    z, y, x, body = _body(rng, shape)
    image = _background(rng, z, y, x, body)
    wander = [_smooth(rng, shape, spacing_mm, 26.0) for _ in range(2)]
    ids = np.zeros(shape, dtype=np.uint8)
    # Small organs last, so that none is swallowed by the liver.
    for number, (name, organ) in enumerate(atlas.items(), start=1):
        present = rng.random() >= absent_share or name == "aorta"
        inside = _inside(rng, organ, wander, z, y, x) & (body < 0.86)
        level = organ.hounsfield + rng.normal(0, 14)
        if present:
            ids[inside] = number
            image[inside] = level
            _texture(image, name, inside, rng, wander)
    return _scanner(rng, image, spacing_mm), np.stack([ids == k for k in range(1, len(atlas) + 1)])


def _body(rng: np.random.Generator, shape: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Body coordinates z, y, x and the distance from the axis over the skin's, each (D, H, W)."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    turn = rng.normal(0, 0.06)
    y, x = y - rng.normal(0, 0.03), x - rng.normal(0, 0.03)
    y, x = y * math.cos(turn) - x * math.sin(turn), y * math.sin(turn) + x * math.cos(turn)
    y, x = y / rng.uniform(0.7, 0.84), x / rng.uniform(0.84, 0.95)
    z = z * rng.uniform(0.75, 1.0) + rng.normal(0, 0.12)
    # A superellipse: flatter in front and behind than an ellipse.
    return z, y, x, (np.abs(x) ** 2.4 + np.abs(y) ** 2.4) ** np.float32(1 / 2.4)


def _background(rng: np.random.Generator, z: np.ndarray, y: np.ndarray, x: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Air, subcutaneous fat, muscle wall, visceral fat with bowel, and the spine."""
    image = np.full(body.shape, _AIR, dtype=np.float32)
    wall = rng.uniform(0.86, 0.93)
    image[body < 1] = _FAT
    image[body < wall] = _MUSCLE
    image[body < wall - 0.08] = _FAT
    for _ in range(int(rng.integers(10, 18))):  # unlabelled soft tissue: bowel and stomach, some with gas
        centre = rng.uniform((-1.2, -0.6, -0.6), (1.2, 0.25, 0.6))
        radius = rng.uniform(0.08, 0.22)
        loop = np.sqrt((0.45 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) / radius
        image[(loop < 1) & (body < wall - 0.1)] = _BOWEL + rng.normal(0, 20)
        if rng.random() < 0.35:
            image[(loop < 0.7) & (y < centre[1] - 0.1 * radius) & (body < wall - 0.1)] = -850.0
    spine = np.hypot(y - 0.5, x)
    image[(np.hypot((y - 0.68) / 0.2, (np.abs(x) - 0.22) / 0.2) < 1) & (body < wall)] = _MUSCLE
    disc = smoothstep(0.5, 0.9, np.sin(z * 9 + rng.uniform(0, 6)))
    vertebra = spine < 0.17
    image[vertebra] = (_BONE * (1 - 0.7 * disc) - 160 * smoothstep(0.14, 0.08, spine))[vertebra]
    image[(np.hypot(y - 0.7, x) < 0.06)] = 20.0
    image[(np.hypot((y - 0.82) / 0.1, x / 0.04) < 1) & (body < 0.97)] = _BONE
    return image


def _smooth(rng: np.random.Generator, shape: Sequence[int], spacing_mm: Sequence[float], reach_mm: float) -> np.ndarray:
    """Noise (D, H, W) of deviation 1 that varies over `reach_mm` in the plane and along the axis."""
    field = rng.standard_normal(tuple(shape), dtype=np.float32)
    field = gaussian_filter(field, [reach_mm / 2 / s for s in spacing_mm], mode="wrap", truncate=2)
    return field / field.std()


def _inside(
    rng: np.random.Generator,
    organ: Organ,
    wander: Sequence[np.ndarray],
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
) -> np.ndarray:
    centre = np.array(organ.centre) + rng.normal(0, 0.035, 3)
    radii = np.array(organ.radii) * np.exp(rng.normal(0, 0.09, 3))
    a, b = rng.uniform(-1, 1, 2)
    terms = ((axis - float(c)) / float(r) for axis, c, r in zip((z, y, x), centre, radii, strict=True))
    rho = np.sqrt(sum(term**2 for term in terms))
    return rho < 1 + organ.rough * 0.5 * (float(a) * wander[0] + float(b) * wander[1])


def _texture(
    image: np.ndarray, name: str, inside: np.ndarray, rng: np.random.Generator, wander: Sequence[np.ndarray]
) -> None:
    """Uneven enhancement; the kidneys' darker middle and a cyst or tumour in some livers, in place."""
    image[inside] += 6 * wander[0][inside]
    if name.startswith("kidney"):
        core = gaussian_filter(inside.astype(np.float32), 2.2) > 0.8
        image[core & inside] -= 55
    elif name == "liver" and rng.random() < 0.5:
        spots = inside & (wander[1] > 1.5)
        image[spots] -= rng.uniform(25, 60)


def _scanner(rng: np.random.Generator, image: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Blur between voxels and correlated noise."""
    image = gaussian_filter(image, [0.35, 0.6, 0.6])
    noise = gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), [0.0, 0.7, 0.7])
    return (image + noise / noise.std() * np.float32(rng.uniform(10, 22))).astype(np.float32)
