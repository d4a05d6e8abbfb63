"""Peak memory of one call, measured in a process of its own: no other model's cache, no earlier peak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.errors import InputError, RunError


@dataclass(frozen=True)
class MemoryResult:
    """Peak memory of one call in MiB (2^20 bytes), after one call to warm up unless it was measured without.

    `kind` says what the headline is. "cuda": torch's allocator, `peak_allocated_mib` and `peak_reserved_mib`,
    without the driver's context. "rss": resident memory of the whole process, peak during the call; on Linux
    without the pages of mapped files, which are the system's cache and not the method's. "rss_process": the same,
    but the peak of the process's life, where the system cannot reset it. The resident figures are there for every
    kind; the baselines are read before the first call, with the model loaded.
    """

    kind: Literal["cuda", "rss", "rss_process"]
    peak_rss_mib: float
    baseline_rss_mib: float
    peak_allocated_mib: float | None = None
    peak_reserved_mib: float | None = None
    baseline_allocated_mib: float | None = None

    @property
    def peak_mib(self) -> float:
        """The headline: allocated on the GPU, resident on the CPU."""
        return self.peak_rss_mib if self.peak_allocated_mib is None else self.peak_allocated_mib


def measure_peak_memory(
    target: str, argument: dict[str, Any], timeout: float = 600.0, warmup: bool = True
) -> MemoryResult:
    """Peak memory of a call in a fresh process.

    `target` "module:function" is given the JSON-able `argument` and returns the call. Without `warmup` the peak is
    that of the first call. Raises InputError for a
    malformed target, RunError in one line if the process fails or takes more than `timeout` seconds.
    """
    if not all(target.partition(":")):
        raise InputError(f"memory: target {target!r}, expected 'module:function'")
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        command = [
            sys.executable,
            "-m",
            "bench.measure.memory_worker",
            target,
            json.dumps(argument),
            str(answer),
            *(["warmup"] if warmup else []),
        ]
        # the child finds the modules that this process finds, wherever it was started
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        try:
            worker = subprocess.run(
                command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout, env=environment
            )
        except subprocess.TimeoutExpired as error:
            raise RunError(f"memory of {target}: no answer within {timeout:g} s") from error
        if worker.returncode or not answer.is_file():
            lines = [line.strip() for line in worker.stderr.splitlines() if line.strip()]
            reason = lines[-1] if lines else "no message"
            raise RunError(f"memory of {target}: the process ended with {worker.returncode}: {reason}")
        return MemoryResult(**json.loads(answer.read_text(encoding="utf-8")))
