"""Near-duplicates: a perceptual hash proposes pairs, the correlation of small grey pictures decides.

All eyes look alike, and all abdomens. So what many images of a data set share is taken out of each before it is
compared: the main directions (of an SVD) on which a third of the images lie, two of them at most. Thresholds were
measured on drawn data, where it is known which images show one scene; docs/datasets.md has the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from bench.datasets.geometry import resize

SIDE = 32  # pixels of a small picture
FAR = 22  # of 64 bits: hashes that differ in more propose no pair
SAME = 0.75  # correlation of a pair
SAME_OF_FEW = 0.99  # the same where too few images are there to tell what all of them share
_FEW = 8  # images
_SHARE, _MOST = 1 / 3, 2
_FINE = 4.0  # pixels: what is coarser is lighting
_SHIFT = 3  # pixels by which two pictures of a pair may lie apart
_BITS = 8  # the hash has 8 x 8
_CHUNK = 4096


class NearPair(NamedTuple):
    """Two images by their place in the list, and their correlation."""

    a: int
    b: int
    correlation: float


def small_grey(image: np.ndarray) -> np.ndarray:
    """Small pictures (P, 32, 32) float32 of an image (C, *S): one, or the three middle planes of a volume.

    Lighting is taken out: every place is seen against its surroundings, and in units of their contrast.
    """
    grey = image.mean(axis=0)
    middle = [grey.take(n // 2, axis) for axis, n in enumerate(grey.shape)] if grey.ndim == 3 else [grey]
    planes = [resize(torch.from_numpy(np.ascontiguousarray(p, np.float32))[None], (SIDE, SIDE))[0] for p in middle]
    return np.stack([_against_surroundings(plane.numpy()) for plane in planes])


def _against_surroundings(plane: np.ndarray) -> np.ndarray:
    detail = plane - gaussian_filter(plane, _FINE)
    contrast = np.sqrt(gaussian_filter(detail**2, _FINE))
    return detail / (contrast + 0.3 * detail.std() + 1e-6)


def near_duplicates(pictures: Sequence[np.ndarray]) -> list[NearPair]:
    """The pairs among small pictures (P, 32, 32) each, most alike first."""
    if len(pictures) < 2:
        return []
    own = _unshared(np.stack(pictures))
    limit = SAME if len(own) >= _FEW else SAME_OF_FEW
    pairs = _proposed(_hashes(own))
    found: list[NearPair] = []
    for start in range(0, len(pairs), _CHUNK):
        some = pairs[start : start + _CHUNK]
        alike = _correlation(own[some[:, 0]], own[some[:, 1]])
        found += [NearPair(int(a), int(b), float(c)) for (a, b), c in zip(some, alike, strict=True) if c > limit]
    return sorted(found, key=lambda pair: -pair.correlation)


def _unshared(pictures: np.ndarray) -> np.ndarray:
    """Pictures (N, P, S, S) without the directions that many of them share."""
    flat = _unit(pictures.reshape(len(pictures), -1).astype(np.float32))
    shared = []
    for direction in np.linalg.svd(flat, full_matrices=False)[2][:_MOST]:
        share = (flat @ direction) ** 2
        many = share.sum() ** 2 / max((share**2).sum(), 1e-12)  # how many images lie on it, if all did so alike
        if many >= max(_FEW, _SHARE * len(flat)):
            shared.append(direction)
    common = np.array(shared, np.float32).reshape(-1, flat.shape[1])
    return (flat - flat @ common.T @ common).reshape(pictures.shape)


def _hashes(pictures: np.ndarray) -> np.ndarray:
    """64 bits of each plane (N, P) uint64: which low frequencies lie above their median."""
    low = dctn(pictures, axes=(-2, -1), norm="ortho")[..., :_BITS, :_BITS].reshape(*pictures.shape[:2], -1)
    bits = low > np.median(low, axis=-1, keepdims=True)
    return np.packbits(bits, axis=-1).view(np.uint64)[..., 0]


def _proposed(hashes: np.ndarray) -> np.ndarray:
    """Pairs (K, 2) of images, the first before the second, whose hashes differ little in the mean of their planes."""
    pairs = [np.empty((0, 2), np.int64)]
    for index, own in enumerate(hashes[:-1]):
        differing = np.bitwise_count(hashes[index + 1 :] ^ own).sum(axis=1)
        others = index + 1 + np.flatnonzero(differing <= FAR * hashes.shape[1])
        pairs.append(np.stack([np.full(len(others), index), others], axis=1))
    return np.concatenate(pairs)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The highest correlation (K) of pictures (K, P, S, S) over small shifts, of what overlaps."""
    best = np.full(len(a), -1.0, np.float32)
    steps = range(-_SHIFT, _SHIFT + 1)
    for down, right in ((y, x) for y in steps for x in steps):
        one, other = _part(a, down, right), _part(b, -down, -right)
        best = np.maximum(best, np.einsum("ij,ij->i", one, other))
    return best


def _part(pictures: np.ndarray, down: int, right: int) -> np.ndarray:
    """What is left of pictures (K, P, S, S) where the first rows and columns fall away, or with a minus the last."""
    rows, columns = (slice(max(n, 0), SIDE + min(n, 0)) for n in (down, right))
    part = pictures[..., rows, columns].reshape(len(pictures), -1)
    return _unit(part - part.mean(axis=1, keepdims=True))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
