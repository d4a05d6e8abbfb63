"""Several calls timed in turn, round by round: what slows the machine down slows all of them, and ratios hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.stats import Ratio, speed_ratio


@dataclass(frozen=True)
class InterleavedResult:
    """Seconds of every timed call by name, one per round, each on so many samples."""

    seconds: dict[str, list[float]]
    samples: dict[str, int]

    def per_sample(self, name: str) -> float:
        """Median seconds per sample."""
        return float(np.median(self.seconds[name])) / self.samples[name]

    def speedup(self, name: str, over: str) -> Ratio:
        """Median time per sample of `over` divided by that of `name`; a round keeps its calls together."""
        slow, fast = (np.asarray(self.seconds[key]) / self.samples[key] for key in (over, name))
        return speed_ratio(slow.tolist(), fast.tolist(), paired=True)


def measure_interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int,
    synchronize: Callable[[], None],
    samples: Mapping[str, int] | None = None,
    prepare: Mapping[str, Callable[[], object]] | None = None,
) -> InterleavedResult:
    """Time every call once a round, `rounds` times, after `warmup` untimed rounds.

    The order turns by one place a round, so that no call always follows the same other one. `synchronize` waits until
    the device is idle; `samples` says how many samples a call treats (1 where it says nothing); what `prepare` has for
    a call is done before it and not timed.
    """
    for call in list(calls.values()) * warmup:
        call()
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if prepare and name in prepare:
                prepare[name]()
            synchronize()
            start = time.perf_counter()
            calls[name]()
            synchronize()
            seconds[name].append(time.perf_counter() - start)
    return InterleavedResult(seconds, {name: (samples or {}).get(name, 1) for name in names})
