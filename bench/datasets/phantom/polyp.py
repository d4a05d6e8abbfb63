"""Colonoscopy-like scenes: mucosa, folds, lumen, lesions, and things like lesions in colour or shape only.

A lesion is a raised dome *and* of another colour; reddened patches are only coloured, bumps are only raised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from bench.datasets.phantom.fields import Outline, generator, noise_pair, smoothstep, texel

_TEXTURE = 512
_REDDER = np.array([-0.06, -0.42, -0.34], dtype=np.float32)
_PALER = np.array([0.10, 0.34, 0.42], dtype=np.float32)
_MUCOSA = np.array([[214, 118, 98], [222, 148, 128], [205, 128, 84]], dtype=np.float32)
_VESSEL = np.array([0.04, 0.16, 0.12], dtype=np.float32)
_DEBRIS = np.array([-0.08, 0.02, -0.38], dtype=np.float32)


@dataclass(frozen=True)
class Blob:
    """A dome, a patch or both: relief over its radius, and a relative change of colour (3,)."""

    outline: Outline
    relief: float
    tint: np.ndarray
    soft: float  # width of the colour's edge, in radii
    steep: float  # exponent of the dome: 0.5 a hemisphere, 1.5 a gentle rise


@dataclass(frozen=True)
class Scene:
    """All that the frames of one sequence share; coordinates are -1..1 across the frame."""

    colour: np.ndarray  # (3,) grey levels
    lumen: tuple[float, float, float]  # x, y, radius
    grain: tuple[float, float, float]  # turn and offset of the textures
    folds: np.ndarray  # (n, 4): distance from the lumen, angle, width, height
    light: tuple[float, float]  # tilt of the lamp
    lesions: tuple[Blob, ...]
    distractors: tuple[Blob, ...]
    bubbles: np.ndarray  # (n, 3): x, y, radius


@lru_cache(maxsize=1)
def _textures() -> np.ndarray:
    """Blotches, vessels, grain and pits (4, size * size), shared by all scenes at different places."""
    rng = generator(_TEXTURE)
    pairs = [noise_pair(rng, _TEXTURE, falloff) for falloff in (1.9, 0.9)]
    return np.concatenate(pairs).reshape(4, -1)


def draw_scene(seed: int, split: int, group: int, with_lesion: bool) -> Scene:
    """The scene of one group of frames."""
    rng = generator(seed, split, group)
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 1.5)
    lumen = (float(reach * np.cos(angle)), float(reach * np.sin(angle)), rng.uniform(0.14, 0.34))
    n_folds = int(rng.integers(2, 6))
    folds = np.stack(
        [
            rng.uniform(0.35, 2.2, n_folds),
            rng.uniform(0, 2 * np.pi, n_folds),
            rng.uniform(0.05, 0.11, n_folds),
            rng.uniform(0.04, 0.12, n_folds),
        ],
        axis=1,
    )
    lesions = tuple(_lesion(rng, lumen) for _ in range(1 + int(rng.random() < 0.25)))
    mucosa = rng.dirichlet([0.8, 0.8, 0.8]) @ _MUCOSA
    return Scene(
        colour=(mucosa * rng.uniform(0.85, 1.05, 3)).astype(np.float32),
        lumen=lumen,
        grain=(rng.uniform(0, 2 * np.pi), rng.uniform(3, 6), rng.uniform(3, 6)),
        folds=folds,
        light=(rng.uniform(-0.45, 0.45), rng.uniform(-0.45, 0.45)),
        lesions=lesions if with_lesion else (),
        distractors=_distractors(rng, lumen),
        bubbles=_bubbles(rng),
    )


def _place(rng: np.random.Generator, lumen: tuple[float, float, float], reach: float) -> tuple[float, float]:
    """A place on the wall, not inside the lumen."""
    while True:
        x, y = rng.uniform(-reach, reach, 2)
        if np.hypot(x - lumen[0], y - lumen[1]) > lumen[2] + 0.15:
            return float(x), float(y)


def _tint(rng: np.random.Generator, strength: float) -> np.ndarray:
    return (_REDDER if rng.random() < 0.75 else _PALER) * np.float32(strength)


def _lesion(rng: np.random.Generator, lumen: tuple[float, float, float]) -> Blob:
    radius = math.exp(rng.uniform(math.log(0.2), math.log(0.52)))
    outline = Outline.draw(rng, *_place(rng, lumen, 0.6), radius, rough=0.16)
    tint = _tint(rng, rng.uniform(0.55, 1.1))
    return Blob(outline, rng.uniform(0.15, 0.7), tint, rng.uniform(0.06, 0.3), rng.uniform(0.6, 1.4))


def _distractors(rng: np.random.Generator, lumen: tuple[float, float, float]) -> tuple[Blob, ...]:
    blobs = []
    for kind in rng.choice(3, size=int(rng.integers(0, 3)), p=[0.45, 0.35, 0.2]):
        radius = math.exp(rng.uniform(math.log(0.1), math.log(0.32)))
        outline = Outline.draw(rng, *_place(rng, lumen, 0.8), radius, rough=0.2)
        patch = _tint(rng, rng.uniform(0.15, 0.45))
        relief, steep = rng.uniform(0.15, 0.6), rng.uniform(0.6, 1.4)
        blobs.append(
            (
                Blob(outline, 0.0, patch, soft=0.7, steep=1.0),  # reddened or pale patch: colour, no shape
                Blob(outline, relief, 0 * patch, soft=0.2, steep=steep),  # bump of the wall: shape, no colour
                Blob(outline, relief, _DEBRIS, soft=0.15, steep=steep),  # debris: shape, another colour
            )[kind]
        )
    return tuple(blobs)


def _bubbles(rng: np.random.Generator) -> np.ndarray:
    n = int(rng.integers(3, 12)) if rng.random() < 0.4 else 0
    centre = rng.uniform(-0.7, 0.7, 2)
    return np.column_stack([centre + rng.normal(0, 0.16, (n, 2)), rng.uniform(0.02, 0.07, n)])


def render(scene: Scene, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One frame: image (3, size, size) float32 in 0..255 and lesion mask (size, size) bool."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    seen_x, seen_y = np.meshgrid(axis, axis)
    x, y = _camera(rng, seen_x, seen_y)
    blotches, vessels, grain, pits, wet = _surface(scene, x, y)
    height, shadow = _wall(scene, x, y)
    colour = scene.colour[:, None, None] * (1 + 0.05 * blotches + 0.03 * grain)
    ridge = smoothstep(0.75, 1.0, 1 - np.abs(vessels) * 2)
    colour *= 1 - ridge * _VESSEL[:, None, None]
    mask = np.zeros(x.shape, dtype=bool)
    for blob in (*scene.distractors, *scene.lesions):
        rho = blob.outline.rho(x, y)
        dome = np.maximum(0, 1 - rho * rho) ** blob.steep
        covers = np.minimum(1, 3 * dome)
        height += blob.relief * (blob.outline.radius * dome - covers * height)
        shadow += blob.relief * covers * (1 - shadow)  # what rises from the wall comes nearer to the lamp
        # Little light reaches the foot of a dome, least of all on the side away from the lamp.
        away = _away(scene, blob, x, y)
        shadow *= 1 - 0.55 * blob.relief * away * np.exp(-(((rho - 1) / 0.13) ** 2))
        inside = smoothstep(1 + blob.soft / 2, 1 - blob.soft / 2, rho) * (1 + 0.25 * pits)
        colour *= 1 + blob.tint[:, None, None] * inside
        if any(blob is lesion for lesion in scene.lesions):
            mask |= rho <= 1
    light, gloss = _lighting(scene, rng, height + 0.001 * grain, wet, x, y)
    image = _bubbles_on((colour * light + gloss) * shadow, scene.bubbles, x, y)
    visible = _frame(seen_x, seen_y)
    return _sensor(image * visible, rng, size), mask & (visible > 0.5)


def _surface(scene: Scene, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Blotches, vessels, grain, pits and wetness at scene coordinates, each (H, W)."""
    turn, dx, dy = scene.grain
    cos, sin = math.cos(turn), math.sin(turn)
    across, down = cos * x - sin * y + dx, sin * x + cos * y + dy
    near, fine = texel(_TEXTURE, across, down), texel(_TEXTURE, across, down, 0.5)
    blotches, vessels, grain, pits = _textures()
    wet = blotches[texel(_TEXTURE, down, across, 0.7)]
    return [blotches[near], vessels[near], grain[near], pits[fine], wet]


def _away(scene: Scene, blob: Blob, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """1 on the side of a blob away from the lamp, 0.2 on the lit side."""
    along = (x - blob.outline.x) * scene.light[0] + (y - blob.outline.y) * scene.light[1]
    reach = blob.outline.radius * (math.hypot(*scene.light) + 0.05)
    return np.clip(0.6 + 0.5 * along / reach, 0.2, 1)


def _frame(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The octagon an endoscope shows: 1 inside, 0 in the corners."""
    x, y = np.abs(x), np.abs(y)
    return smoothstep(0, 0.03, np.minimum(0.98 - np.maximum(x, y), 1.62 - x - y))


def _camera(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scene coordinates of the pixels: a small drift, turn and zoom between the frames of a sequence."""
    turn, zoom = rng.normal(0, 0.07), math.exp(rng.normal(0, 0.05))
    cos, sin = math.cos(turn) * zoom, math.sin(turn) * zoom
    dx, dy = rng.normal(0, 0.05, 2).tolist()
    return cos * x - sin * y + dx, sin * x + cos * y + dy


def _wall(scene: Scene, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Relief of the folds and the light they and the lumen leave, both (H, W)."""
    cx, cy, radius = scene.lumen
    dx, dy = x - cx, y - cy
    angle = np.arctan2(dy, dx)
    far = np.hypot(dx, dy) * (1 + 0.07 * np.sin(3 * angle + float(scene.folds[0, 1])))
    left = 1 - 0.9 * np.exp(-((far / (1.6 * radius)) ** 2))
    height = np.zeros_like(x)
    for distance, direction, width, rise in scene.folds.tolist():
        arc = smoothstep(-0.2, 0.5, np.cos(angle - direction))
        across = (far - distance - 0.05 * np.sin(2 * angle + direction)) / width
        height += rise * arc * np.exp(-(across**2))
        left *= 1 - 0.4 * arc * np.exp(-((across + 1.4) ** 2))
    return height, left


def _lighting(
    scene: Scene, rng: np.random.Generator, height: np.ndarray, wet: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse light as a factor and gloss in grey levels, both (H, W)."""
    down, right = np.gradient(height, 2 / len(height))
    tx, ty = (tilt + rng.normal(0, 0.04) for tilt in scene.light)
    squared = right * right + down * down
    diffuse = (1 - tx * right - ty * down) / np.sqrt((1 + squared) * (1 + tx * tx + ty * ty))
    fall = 1.08 - 0.3 * ((x - 0.5 * tx) ** 2 + (y - 0.5 * ty) ** 2)
    light = np.clip(0.25 + 0.8 * diffuse, 0.1, 1.3) * fall * math.exp(rng.normal(0, 0.05))
    # The lamp sits beside the lens: a wet film shines where the wall faces the middle of both.
    off = (right + tx / 2) ** 2 + (down + ty / 2) ** 2
    return light, 235 * smoothstep(1.5, 2.5, wet) * np.exp(-off / 0.02)


def _bubbles_on(image: np.ndarray, bubbles: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    for cx, cy, radius in bubbles.tolist():
        near = (np.abs(x - cx) < 1.5 * radius) & (np.abs(y - cy) < 1.5 * radius)
        dx, dy = (x[near] - cx) / radius, (y[near] - cy) / radius
        rho = np.hypot(dx, dy)
        ring = 55 * np.exp(-(((rho - 0.92) / 0.14) ** 2))
        spark = 150 * np.exp(-((dx + 0.35) ** 2 + (dy + 0.35) ** 2) / 0.04)
        image[:, near] = image[:, near] * (1 - 0.12 * (rho < 1)) + ring + spark
    return image


def _sensor(image: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Defocus, noise and clipping to whole grey levels."""
    sigma = rng.uniform(0.3, 1.1) * size / 192
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(2, 5))
    blurred = np.stack([gaussian_filter(channel, sigma, truncate=3) for channel in image])
    return np.rint(np.clip(blurred + noise + 4, 0, 255)).astype(np.float32)
