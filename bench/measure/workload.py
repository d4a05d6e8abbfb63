"""The reference workload: fixed work timed beside every call, so that a slower machine cancels in the ratio."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch.nn import functional

from bench.device import synchronize
from bench.record import Timing

# Batch and size of images that take some 10 ms: the same work on a GPU would measure only the launching of kernels.
_WORK = {"cuda": (16, 256), "cpu": (1, 64)}
_CHANNELS, _LAYERS, _WARMUP = 64, 4, 3


class ReferenceWorkload:
    """Four float32 layers of convolution, group normalisation and SiLU on noise, like those of the methods timed.

    Calling it does the work once and keeps the seconds it took.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        batch, size = _WORK[self.device.type]
        self.name = f"{_LAYERS} convolutions of {_CHANNELS} channels, {batch} x {size} x {size}, float32"
        generator = torch.Generator().manual_seed(0)
        self.input = torch.randn((batch, _CHANNELS, size, size), generator=generator).to(self.device)
        self.weight = torch.randn((_CHANNELS, _CHANNELS, 3, 3), generator=generator).to(self.device)
        self.seconds: list[float] = []
        for _ in range(_WARMUP):
            self._work()

    def __call__(self) -> None:
        """Do the work once and keep its seconds; the device is drained on both sides."""
        synchronize(self.device)
        start = time.perf_counter()
        self._work()
        self.seconds.append(time.perf_counter() - start)

    def timing(self, seconds: Sequence[float]) -> Timing:
        """The rounds of a call, before each of which the workload was called."""
        beside = self.seconds[-len(seconds) :]
        return Timing(seconds=list(seconds), workload=beside, workload_name=self.name)

    @torch.no_grad()
    def _work(self) -> None:
        x = self.input
        for _ in range(_LAYERS):
            x = functional.silu(functional.group_norm(functional.conv2d(x, self.weight, padding=1), 8))
        synchronize(self.device)
