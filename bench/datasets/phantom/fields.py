"""Random building blocks of the phantoms: seeded generators, smooth noise, irregular outlines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def generator(*key: int) -> np.random.Generator:
    """One generator per key, whatever was drawn before."""
    return np.random.default_rng(list(key))


def noise_pair(rng: np.random.Generator, size: int, falloff: float) -> np.ndarray:
    """Two periodic fields (2, size, size), mean 0 and deviation 1, amplitude as frequency ** -falloff."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None]).astype(np.float32)
    frequency[0, 0] = np.inf
    white = rng.standard_normal((2, size, size), dtype=np.float32)
    field = np.fft.ifft2((white[0] + 1j * white[1]) * frequency**-falloff)
    return np.stack([part / part.std() for part in (field.real, field.imag)]).astype(np.float32)


def texel(size: int, x: np.ndarray, y: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Flat indices into a periodic field (size, size) that spans `3 * scale` units of x and y."""
    step = np.float32(size / (3 * scale))
    return ((y * step).astype(np.int32) % size) * size + (x * step).astype(np.int32) % size


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, a smooth ramp between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Outline:
    """A closed smooth outline: radius as a low-order Fourier series of the angle."""

    x: float
    y: float
    radius: float
    amplitude: tuple[float, ...]
    phase: tuple[float, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, x: float, y: float, radius: float, rough: float) -> Outline:
        """An outline with harmonics 2 to 5 of relative size `rough`."""
        amplitude = rng.uniform(0.3, 1.0, 4) * rough * 2 / np.arange(2, 6)
        return cls(x, y, radius, tuple(amplitude.tolist()), tuple(rng.uniform(0, 2 * np.pi, 4).tolist()))

    def rho(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Distance from the centre over the radius in that direction: below 1 inside."""
        dx, dy = x - self.x, y - self.y
        angle = np.arctan2(dy, dx)
        reach = np.ones_like(angle)
        for k, (a, phase) in enumerate(zip(self.amplitude, self.phase, strict=True), start=2):
            reach += a * np.cos(k * angle + phase)
        return np.hypot(dx, dy) / (self.radius * np.maximum(reach, 0.3))
