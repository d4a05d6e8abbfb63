"""Remembers the latents of training masks: the codec is frozen, so a mask need not be encoded every step."""

from __future__ import annotations

import logging
import math
from typing import Protocol

import torch

_GIB = 2**30


class Codec(Protocol):
    """What the cache asks: masks (B, 1, H, W) bool to moments (B, 2c, h, w)."""

    def moments(self, mask: torch.Tensor) -> torch.Tensor: ...


class LatentCache:
    """Moments of masks by key 0..`size`-1, float32, on the device of the masks or past `limit` bytes in main memory.

    The encoder does not commute with flips, so every orientation of a mask needs a key of its own. A missing mask is
    encoded alone and without autocast: what is remembered then depends on the mask, not on the batch it came in, and
    a resumed training stays identical to the bit. Past `host_limit` bytes nothing is remembered.
    """

    def __init__(self, codec: Codec, size: int, limit: int = 4 * _GIB, host_limit: int = 32 * _GIB) -> None:
        self.codec, self.size, self.limit, self.host_limit = codec, size, limit, host_limit
        self.table: torch.Tensor | None = None  # (size, 2c, h, w), made when the first mask tells its shape
        self.known = torch.zeros(size, dtype=torch.bool)
        self.full = self.disabled = False

    @torch.no_grad()
    def __call__(self, mask: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Moments (B, 2c, h, w) of masks (B, 1, H, W) bool with keys (B,)."""
        if self.table is None and not self.disabled:
            self._allocate(self._encode(mask[:1]))
        if self.table is None:
            return self.codec.moments(mask)
        key = key.to(self.table.device)
        if not self.full:  # asking which are missing waits for the device, so not for ever
            self._add_missing(mask, key)
        return self.table[key].to(mask.device)

    def _add_missing(self, mask: torch.Tensor, key: torch.Tensor) -> None:
        assert self.table is not None
        missing = torch.nonzero(~self.known[key]).flatten().tolist()
        for row in missing:
            self.table[key[row]] = self._encode(mask[row : row + 1])[0].to(self.table.device)
        if missing:
            self.known[key] = True
            self.full = bool(self.known.all())

    def _encode(self, mask: torch.Tensor) -> torch.Tensor:
        with torch.autocast(mask.device.type, enabled=False):
            return self.codec.moments(mask).float()

    def _allocate(self, example: torch.Tensor) -> None:
        needed = self.size * math.prod(example.shape[1:]) * example.element_size()
        if needed > self.host_limit:
            self.disabled = True
            logging.getLogger(__name__).warning("latents of the masks would take %.0f GiB: not cached", needed / _GIB)
            return
        device = example.device if needed <= self.limit else torch.device("cpu")
        self.table = torch.empty((self.size, *example.shape[1:]), device=device)
        self.known = self.known.to(device)
