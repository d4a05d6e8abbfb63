"""Weights, inputs and masks that are closed-form functions of their names, as the golden data defines them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch


def _generator(salt: str, key: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(f"{salt}/{key}".encode())))


def _normal(salt: str, key: str, shape: Sequence[int]) -> np.ndarray:
    return np.asarray(_generator(salt, key).standard_normal(tuple(shape))).astype(np.float32)


def normal(key: str, shape: Sequence[int], salt: str) -> torch.Tensor:
    """Standard normal numbers by their whole name."""
    return torch.from_numpy(_normal(salt, key, shape))


def weight(key: str, shape: Sequence[int], salt: str) -> torch.Tensor:
    """A weight or a statistic by its complete name in the released checkpoint."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    drawn = _normal(salt, key, shape)
    if key.endswith("running_var"):
        drawn = 1 + 0.1 * np.abs(drawn)
    elif len(shape) >= 2:
        drawn = drawn / math.sqrt(math.prod(shape[1:]))
    elif len(shape) == 1 and key.endswith("weight"):
        drawn = 1 + 0.1 * drawn
    else:
        drawn = 0.1 * drawn
    return torch.from_numpy(np.asarray(drawn, np.float32))


def tensor(name: str, shape: Sequence[int], salt: str, image: bool = False) -> torch.Tensor:
    """A standard normal input, or an image in [-1, 1]."""
    drawn = _normal(salt, f"input/{name}", shape)
    return torch.from_numpy(np.tanh(drawn) if image else drawn)


def ellipse(name: str, salt: str, side: int, scale: float = 1.0) -> torch.Tensor:
    """A mask (side, side) bool; `scale` 0 gives an empty one."""
    if not scale:
        return torch.zeros(side, side, dtype=torch.bool)
    u = _generator(salt, f"mask/{name}").random(5)
    x0, y0 = (0.3 + 0.4 * u[0]) * side, (0.3 + 0.4 * u[1]) * side
    a, b = (0.15 + 0.15 * u[2]) * side * scale, (0.12 + 0.13 * u[3]) * side * scale
    c, s = math.cos(math.pi * u[4]), math.sin(math.pi * u[4])
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    dx, dy = x - x0, y - y0
    return torch.from_numpy(((dx * c + dy * s) / a) ** 2 + ((-dx * s + dy * c) / b) ** 2 <= 1)
