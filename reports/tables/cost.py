"""Table 4: what training and inference cost, per data set and method, and on which machine."""

from __future__ import annotations

import math
from typing import Any

from reports.frame import Frame, Run
from reports.provenance import device, threads
from reports.published import read_ledger, same_dataset
from reports.table import Column, Table
from reports.tables.accuracy import published_row
from reports.tables.reasons import missing_notes, reason
from reports.variants import unflagged

_MACHINE = ("comparison", "device", "threads")
_CALL = ("comparison", "call")  # what one call is shown
MEAN = (
    *("parameters_m", "gflop_per_sample", "nfe", "steps", "samples", "slices_per_call"),
    *("train_s_per_step", "train_hours"),
    *("samples_per_s", "latency_ms_p50", "latency_ms_p95"),
)
# What a peak is depends on the machine: torch's allocator on a GPU, else the resident set of a process.
MEMORY = (("peak_allocated_mib", "allocated"), ("peak_rss_mib", "RSS"))
TRAIN_MEMORY = (("train_peak_allocated_mib", "allocated"), ("train_peak_rss_mib", "RSS"))
COLUMNS = [
    Column("dataset", "Data set"),
    Column("method", "Method"),
    Column("parameters_m", "Parameters", "M", "lower", 2),
    Column("gflop_per_sample", "GFLOP/answer", "", "lower", 2),
    Column("steps_samples", "Steps \u00d7 samples", level="page"),
    Column("nfe", "NFE", "", "lower", 0, "terminal", _CALL),
    Column("train_s_per_step", "Training", "s/step", "lower", 3, "page", _MACHINE),
    Column("train_hours", "Training", "h", "lower", 3, "page", _MACHINE),
    Column("train_memory", "Training memory", "MiB", "lower", 0, "page", (*_MACHINE, "train_memory_kind")),
    Column("memory", "Inference memory", "MiB", "lower", 0, "terminal", (*_MACHINE, "memory_kind")),
    Column("memory_kind", "Kind", level="page"),
    Column("samples_per_s", "Answers", "1/s", "higher", 2, "terminal", _MACHINE),
    # These two explain the answers and are no aim of their own.
    Column("single_samples_per_s", "Single samples", "1/s", digits=2, level="page"),
    Column("ms_per_evaluation", "Network call", "ms", digits=1, level="page"),
    Column("call", "Timed call", level="page"),
    Column("latency_ms_p50", "Latency p50", "ms", "lower", 1, "terminal", (*_MACHINE, "call")),
    Column("latency_ms_p95", "Latency p95", "ms", "lower", 1, "terminal", (*_MACHINE, "call")),
    Column("device", "Device", level="page"),
    Column("threads", "Threads", level="page"),
    Column("train_memory_kind", "Kind of training memory", level="csv"),
    Column("peak_reserved_mib", "GPU reserved", "MiB", "lower", 0, "csv", _MACHINE),
    Column("seeds", "Seeds", level="csv"),
    Column("profile", "Profile", level="csv"),
]
CAPTION = (
    "Measured on the machine named in each row; times and memory are ranked only within one device and "
    "thread count. Mean over seeds, peak memory is the largest over seeds. An answer is the finished mask of an "
    "image or slice, all its samples fused. Single samples: answers per second times samples, which is what the "
    "paper prints for MedSegDiff. NFE: network evaluations of one timed call, counted: steps \u00d7 samples, times "
    "windows where one slides, times labels where each is diffused by itself. Network call: latency over NFE, "
    "encoder, decoder and fusion included; samples that share a batch count each. Latency is of a call on what the "
    "column before it names. Memory of kind allocated: peak of torch's allocator on the GPU; of kind RSS: peak "
    "resident memory of a process of its own, without the pages of mapped files (library code)."
)
_REASONED = ("parameters_m", "gflop_per_sample", "memory", "samples_per_s", "latency")
_UNMEASURED = "not measured; pytest suites/test_efficiency.py --benchmark-only measures it, with the run's own settings"
# Published numbers whose reason is told, by the heading under which they stand.
_TOLD = {
    "samples_per_s": "Answers",
    "single_samples_per_s": "Single samples",
    "train_hours": "Training (h)",
    "train_memory_per_gpu_gb": "Training memory",
}


def build(frame: Frame) -> Table:
    """One row per data set and method; the paper's speeds follow where it used the data set."""
    rows: list[dict[str, Any]] = []
    missing: dict[str, list[tuple[str, str]]] = {}
    notes: list[str] = []
    for dataset in sorted({run.record.dataset for run in frame.runs}):
        for name, method, runs in frame.cells():
            if name == dataset:
                rows.append(_row(dataset, method, runs))
                _collect_missing(rows[-1], runs, missing)
        rows += _published(dataset, notes)
    if len({(row.get("device"), row.get("threads")) for row in rows if not row.get("published")}) > 1:
        notes.append("Rows come from more than one device or thread count: compare times only within one of them.")
    return Table("table4", "Table 4 · Cost", CAPTION, COLUMNS, rows, missing_notes(missing) + notes)


def _row(dataset: str, method: str, runs: list[Run]) -> dict[str, Any]:
    first = runs[0]
    row: dict[str, Any] = {"dataset": dataset, "method": method, "comparison": first.comparison}
    row |= {metric: _mean(runs, metric) for metric in MEAN}
    row |= {"peak_reserved_mib": _largest(runs, "peak_reserved_mib")}
    row["memory"], row["memory_kind"] = _memory(runs, MEMORY)
    row["train_memory"], row["train_memory_kind"] = _memory(runs, TRAIN_MEMORY)
    row["steps_samples"] = _steps_samples(row["steps"], row["samples"])
    row["single_samples_per_s"] = _product(row["samples_per_s"], row["samples"])
    row["ms_per_evaluation"] = row["latency_ms_p50"] / row["nfe"] if row["latency_ms_p50"] and row["nfe"] else None
    row["call"] = _call(first.record.dims, row["slices_per_call"])
    row |= {"device": device(first.record), "threads": threads(first.record), "profile": first.record.profile}
    return row | {"seeds": ", ".join(str(run.record.seed) for run in runs)}


def _values(runs: list[Run], metric: str) -> list[float]:
    return [value for run in runs if math.isfinite(value := run.record.score(metric))]


def _mean(runs: list[Run], metric: str) -> float | None:
    values = _values(runs, metric)
    return math.fsum(values) / len(values) if values else None


def _largest(runs: list[Run], metric: str) -> float | None:
    return max(_values(runs, metric), default=None)


def _memory(runs: list[Run], kinds: tuple[tuple[str, str], ...]) -> tuple[float | None, str | None]:
    for metric, kind in kinds:
        if (value := _largest(runs, metric)) is not None:
            return value, kind
    return None, None


def _steps_samples(steps: float | None, samples: float | None) -> str | None:
    return None if steps is None or samples is None else f"{steps:g} \u00d7 {samples:g}"


def _product(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a * b


def _call(dims: int, slices: float | None) -> str | None:
    if slices is None:
        return None
    if dims == 2:
        return "1 image"
    return "1 slice" if slices == 1 else f"{slices:g} slices"


def _collect_missing(row: dict[str, Any], runs: list[Run], missing: dict[str, list[tuple[str, str]]]) -> None:
    titles = {column.key: column.title for column in COLUMNS} | {"latency": "Latency"}
    where = f"{unflagged(row['method'])} on {row['dataset']}"
    absent = [key for key in _REASONED if row["latency_ms_p50" if key == "latency" else key] is None]
    if len(absent) == len(_REASONED):
        missing.setdefault("Every cost of inference", []).append((where, reason(runs, "latency") or _UNMEASURED))
        return
    for key in absent:
        missing.setdefault(titles[key], []).append((where, reason(runs, key) or _UNMEASURED))


def _published(dataset: str, notes: list[str]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    told: dict[tuple[str, str], list[str]] = {}
    for entry in read_ledger():
        if entry.table == "4" and entry.metric != "Dice" and same_dataset(dataset, entry.dataset):
            row = rows.setdefault(entry.method, published_row(dataset, entry, comparable=False))
            # "~48" is not 48.000
            row[entry.metric] = entry.printed if entry.printed.startswith("~") else entry.as_measured
            if entry.metric in _TOLD:
                told.setdefault((_TOLD[entry.metric], entry.why), []).append(entry.method)
    for (title, why), methods in told.items():
        notes.append(f"Published {title} on {dataset}, {'; '.join(methods)}: not comparable: {why}.")
    for row in rows.values():
        row["steps_samples"] = _steps_samples(row.get("steps"), row.get("samples"))
        if row.get("samples") == 1:
            row["single_samples_per_s"] = row.get("samples_per_s")
        if "train_gpus" in row:
            row["train_memory"] = f"{row['train_memory_per_gpu_gb']:g} GB \u00d7 {row['train_gpus']:g} GPU"
        row["device"] = "V100" if str(row["method"]).startswith("SDSeg") else None
    return list(rows.values())
