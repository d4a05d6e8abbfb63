"""The process in which one call's peak memory is read: `-m bench.measure.memory_worker TARGET JSON FILE [warmup]`."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

MIB = 2**20
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def main(target: str, argument: str, answer: str, warmup: str = "") -> None:
    """Build the call that `target` names, make it (after another with `warmup`) and write its peaks to `answer`."""
    module, _, name = target.partition(":")
    call = getattr(importlib.import_module(module), name)(json.loads(argument))
    Path(answer).write_text(json.dumps(_measure(call, bool(warmup))), encoding="utf-8")


def _measure(call: Any, warmup: bool) -> dict[str, Any]:
    import torch  # here, so that a target that cannot be built says so at once

    def on_gpu() -> bool:
        return torch.cuda.is_initialized()

    baseline = {"baseline_rss_mib": _current_rss() / MIB}
    if on_gpu():
        baseline["baseline_allocated_mib"] = torch.cuda.memory_allocated() / MIB
    if warmup:
        call()
    if on_gpu():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    reset = _reset_peak_rss()
    call()
    result: dict[str, Any] = baseline | {"kind": "rss" if reset else "rss_process"}
    if on_gpu():
        torch.cuda.synchronize()
        result |= {
            "kind": "cuda",
            "peak_allocated_mib": torch.cuda.max_memory_allocated() / MIB,
            "peak_reserved_mib": torch.cuda.max_memory_reserved() / MIB,
        }
    return result | {"peak_rss_mib": _peak_rss() / MIB}


def _current_rss() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss) - _file_pages()


def _file_pages() -> int:
    """Resident pages of mapped files, on Linux: how many of the libraries' there are is the system's cache's choice.

    The same process had 100 MiB more of them where the files had just been written.
    """
    return _status("RssFile") if _STATUS.exists() else 0


def _status(name: str) -> int:
    """A figure of /proc/self/status in bytes; 0 where the kernel does not have it."""
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def _reset_peak_rss() -> bool:
    try:
        _CLEAR.write_text("5", encoding="utf-8")  # Linux: 5 sets VmHWM back to the present size
    except OSError:
        return False
    return True


def _peak_rss() -> int:
    # Linux first: there ru_maxrss begins with the resident size of the process that started this one.
    if _STATUS.exists():
        return _status("VmHWM") - _file_pages()
    if sys.platform == "win32":
        return _current_rss()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere


if __name__ == "__main__":
    main(*sys.argv[1:])
