"""Masks of every kind, drawn from a generator: what a general mask autoencoder is trained on."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def draw_masks(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Random masks (B, 1, H, W) bool: ellipses by the dozen, single outlines, polygons, random fields."""
    kinds = (_ellipses, _outline, _polygon, _field, _field, _ellipses)
    masks = [kinds[_integer(len(kinds), generator)](size, generator) for _ in range(count)]
    return torch.stack(masks).unsqueeze(1)


def _uniform(low: float, high: float, generator: torch.Generator, *shape: int) -> torch.Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _integer(high: int, generator: torch.Generator) -> int:
    return int(torch.randint(high, (1,), generator=generator))


def _grid(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    axis = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return y, x


def _ellipses(size: int, generator: torch.Generator) -> torch.Tensor:
    count = 1 + _integer(2 ** (1 + _integer(6, generator)), generator)
    largest = min(0.35, 0.6 / math.sqrt(count))
    y, x = (axis.unsqueeze(0) for axis in _grid(size))
    cy, cx, a, b, angle = (
        _uniform(low, high, generator, count, 1, 1)
        for low, high in ((0, 1), (0, 1), (0.02, largest), (0.02, largest), (0, math.pi))
    )
    u = (x - cx) * angle.cos() + (y - cy) * angle.sin()
    v = (y - cy) * angle.cos() - (x - cx) * angle.sin()
    return ((u / a) ** 2 + (v / b) ** 2 <= 1).any(dim=0)


def _outline(size: int, generator: torch.Generator) -> torch.Tensor:
    y, x = _grid(size)
    cy, cx = _uniform(0.15, 0.85, generator, 2)
    angle = torch.atan2(y - cy, x - cx)
    radius = _uniform(0.05, 0.4, generator, 1).expand_as(angle).clone()
    mean = float(radius[0, 0])
    for order in range(1, 7):
        amplitude, phase = _uniform(-0.25, 0.25, generator, 1) / order, _uniform(0, 2 * math.pi, generator, 1)
        radius = radius + mean * amplitude * torch.cos(order * angle + phase)
    return torch.hypot(y - cy, x - cx) <= radius


def _polygon(size: int, generator: torch.Generator) -> torch.Tensor:
    y, x = _grid(size)
    cy, cx = _uniform(0.2, 0.8, generator, 2)
    inside = torch.ones(size, size, dtype=torch.bool)
    for _ in range(3 + _integer(4, generator)):
        angle, reach = _uniform(0, 2 * math.pi, generator, 1), _uniform(0.05, 0.35, generator, 1)
        inside &= (x - cx) * angle.cos() + (y - cy) * angle.sin() <= reach
    return inside


def _field(size: int, generator: torch.Generator) -> torch.Tensor:
    # Coarse noise, smoothly enlarged and cut at a random height: islands, holes, bands, touching cells.
    cells = 3 + _integer(max(2, size // 5), generator)
    noise = torch.randn(1, 1, cells, cells, generator=generator)
    field = F.interpolate(noise, size=(size, size), mode="bicubic", align_corners=False)[0, 0]
    return field > _uniform(-1.0, 2.0, generator, 1)
