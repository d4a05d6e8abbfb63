"""Wall time per call: an explicit warm-up, and as many timed calls as a budget of seconds allows."""

from __future__ import annotations

import time
from collections.abc import Callable

_LEAST_ROUNDS = 3


def warm_up(call: Callable[[], object], *, rounds: int, warmup: int, seconds: float) -> int:
    """Warm `call` up (it returns when the device is idle); how many of `rounds` timed calls then fit into `seconds`.

    Up to `warmup` calls, at least one, and no further one once they have taken `seconds`. The last tells how long a
    call takes. At least 3 timed calls (or `rounds`, if that is less), however long they are.
    """
    begin = time.perf_counter()
    for _ in range(max(1, warmup)):
        start = time.perf_counter()
        call()
        end = time.perf_counter()
        if end - begin >= seconds:
            break
    fit = seconds / (end - start) if end > start else rounds
    return min(rounds, max(_LEAST_ROUNDS, int(min(fit, rounds))))
