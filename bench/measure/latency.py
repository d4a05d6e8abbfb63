"""Wall time per call: explicit warm-up, the device drained on both sides of every timed call."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from bench.errors import InputError


@dataclass(frozen=True)
class LatencyResult:
    """Seconds of every timed call in the order they were made, each on `batch` samples."""

    seconds: list[float]
    batch: int = 1

    @property
    def p50(self) -> float:
        """Median seconds per call."""
        return float(np.percentile(self.seconds, 50))

    @property
    def p95(self) -> float:
        """95th percentile of the seconds per call, interpolated linearly."""
        return float(np.percentile(self.seconds, 95))

    @property
    def samples_per_s(self) -> float:
        """Samples per second at the median call."""
        return self.batch / self.p50 if self.p50 > 0 else float("inf")


def measure_latency(
    call: Callable[[], object],
    *,
    rounds: int,
    warmup: int,
    synchronize: Callable[[], None],
    batch: int = 1,
) -> LatencyResult:
    """Time `rounds` calls after `warmup` untimed ones; `synchronize` waits until the device is idle."""
    if rounds < 1 or warmup < 0 or batch < 1:
        raise InputError(f"latency: rounds {rounds}, warmup {warmup}, batch {batch}; expected >= 1, >= 0, >= 1")
    for _ in range(warmup):
        call()
    seconds = []
    for _ in range(rounds):
        synchronize()
        start = time.perf_counter()
        call()
        synchronize()
        seconds.append(time.perf_counter() - start)
    return LatencyResult(seconds, batch)


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has done all it was asked to; nothing to wait for on the CPU."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
