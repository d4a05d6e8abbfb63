"""What a record says about code, machine and versions, in words a page can print."""

from __future__ import annotations

import math
from typing import Any

from bench.record import RunRecord

UNKNOWN = "unknown"
SHOWN_PACKAGES = ("torch", "diffusers", "monai", "accelerate", "numpy")


def part(record: RunRecord, name: str) -> dict[str, Any]:
    """A section of the recorded environment, empty where it is missing or no dictionary."""
    section = record.environment.get(name)
    return section if isinstance(section, dict) else {}


def device(record: RunRecord) -> str:
    """Name of the device the run computed on: the processor's where it was told to use the CPU."""
    asked_for_cpu = record.config.get("device") == "cpu"
    section = part(record, "cpu") if asked_for_cpu else part(record, "device") or part(record, "cpu")
    plain = record.environment.get("device")
    return str(section.get("name") or (plain if isinstance(plain, str) else "") or UNKNOWN)


def threads(record: RunRecord) -> int | None:
    """CPU threads torch was given, None where unrecorded."""
    value = record.environment.get("threads", part(record, "torch").get("threads"))
    return value if isinstance(value, int) else None


def sampling(record: RunRecord) -> tuple[int, int] | None:
    """Steps and samples of an answer; None for a method that knows neither."""
    inference = (record.config.get("method") or {}).get("inference") or {}
    if inference.keys().isdisjoint(("steps", "samples", "runs")):
        return None
    # Left open, the method chose. Runs made earlier say `runs`, or nothing where there was one.
    stated = inference.get("samples") or inference.get("runs")
    return int(inference.get("steps") or 1), int(stated or record.inference.get("samples") or 1)


def answer_seconds(record: RunRecord) -> tuple[float, float]:
    """Seconds of an answer (image or slice): timed at batch 1, as Table 4 shows, and as `predict` took; NaN without."""
    slices = record.score("slices_per_call")
    timed = record.score("latency_ms_p50") / 1000 / (slices if math.isfinite(slices) else 1)
    return timed, float(record.inference.get("seconds_per_answer") or math.nan)


def commit(record: RunRecord) -> str:
    """Short git commit, with "modified" where the tree had uncommitted changes."""
    git = part(record, "git")
    name = str(git["commit"])[:10] if git.get("commit") else "no commit"
    return f"{name}, modified" if git.get("dirty") else name


def versions(record: RunRecord) -> str:
    """Python and the packages that decide numbers, each with its version."""
    packages, python = part(record, "packages"), record.environment.get("python")
    shown = [f"Python {python}"] if python else []
    shown += [f"{name} {packages[name]}" for name in SHOWN_PACKAGES if packages.get(name)]
    return ", ".join(shown) or UNKNOWN
