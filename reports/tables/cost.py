"""Table 4: what training and inference cost, per data set and method, and on which machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.record import SCORED_FOLDER
from reports.frame import Frame
from reports.provenance import device, threads
from reports.published import Published, numbers_of_paper, published_rows, same_dataset
from reports.rows import Row, Run, plain
from reports.summary import Missing, missing_notes, reason
from reports.table import Column, Table

_MACHINE = ("comparison", "device", "threads")
_CALL = ("comparison", "call")  # what one call is shown
MEAN = (
    *("parameters_m", "gflop_per_sample", "nfe", "steps", "samples", "slices_per_call"),
    *("train_s_per_step", "train_hours"),
    *("samples_per_s", "latency_ms_p50", "latency_ms_p95", "limit_gflop_per_s"),
)
# What a peak is depends on the machine: torch's allocator on a GPU, else the resident set of a process.
MEMORY = (("peak_allocated_mib", "allocated"), ("peak_rss_mib", "RSS"))
TRAIN_MEMORY = (("train_peak_allocated_mib", "allocated"), ("train_peak_rss_mib", "RSS"))
COLUMNS = [
    *plain(dataset="terminal", method="terminal"),
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
    # These three explain the answers and are no aim of their own.
    Column("share_of_limit", "Share of the limit", digits=2, level="page"),
    Column("single_samples_per_s", "Single samples", "1/s", digits=2, level="page"),
    Column("ms_per_evaluation", "Network call", "ms", digits=1, level="page"),
    Column("call", "Timed call", level="page"),
    Column("latency_ms_p50", "Latency p50", "ms", "lower", 1, "terminal", (*_MACHINE, "call")),
    Column("latency_ms_p95", "Latency p95", "ms", "lower", 1, "terminal", (*_MACHINE, "call")),
    *plain(device="page", threads="page"),
    Column("train_memory_kind", "Kind of training memory", level="csv"),
    Column("peak_reserved_mib", "GPU reserved", "MiB", "lower", 0, "csv", _MACHINE),
    *plain(seeds="csv", profile="csv"),
]
CAPTION = (
    "Measured on the machine named in each row; times and memory are ranked only within one device and "
    "thread count. Mean over seeds, peak memory is the largest over seeds. An answer is the finished mask of an "
    "image or slice, all its samples fused. Single samples: answers per second times samples, which is what the "
    "paper prints for MedSegDiff. NFE: network evaluations of one timed call, counted: steps \u00d7 samples, times "
    "windows where one slides, times labels where each is diffused by itself. Network call: latency over NFE, "
    "encoder, decoder and fusion included; samples that share a batch count each. Share of the limit: GFLOP a second "
    "over those of the machine's best matrix product or convolution in float32, measured beside it; Winograd's "
    "algorithm may exceed it. Latency is of a call on what the column before it names. Memory of kind allocated: peak "
    "of torch's allocator on the GPU; of kind RSS: peak resident memory of a process of its own, without the pages of "
    "mapped files (library code)."
)
_REASONED = ("parameters_m", "gflop_per_sample", "memory", "samples_per_s", "latency")
_UNMEASURED = "not measured; sdseg measure, with the words that sdseg run was given, measures it"
_NO_MODEL = "masks from elsewhere"
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
    missing: Missing = {}
    notes: list[str] = []
    for dataset, members in frame.by_dataset():
        for member in members:
            rows.append(_row(member))
            _collect_missing(rows[-1], member, missing)
        rows += _published(dataset, frame.ledger, notes)
    if len({(row.get("device"), row.get("threads")) for row in rows if not row.get("published")}) > 1:
        notes.append("Rows come from more than one device or thread count: compare times only within one of them.")
    return Table("table4", "Table 4 · Cost", CAPTION, COLUMNS, rows, missing_notes(missing) + notes)


def _row(of: Row) -> dict[str, Any]:
    runs, record = of.runs, of.record
    row = of.fill([]) | {metric: _mean(runs, metric) for metric in MEAN}
    row["peak_reserved_mib"] = _largest(runs, "peak_reserved_mib")
    row["memory"], row["memory_kind"] = _memory(runs, MEMORY)
    row["train_memory"], row["train_memory_kind"] = _memory(runs, TRAIN_MEMORY)
    row["steps_samples"] = _steps_samples(row)
    speed, samples, latency, nfe = (row[key] for key in ("samples_per_s", "samples", "latency_ms_p50", "nfe"))
    row["single_samples_per_s"] = None if speed is None or samples is None else speed * samples
    row["ms_per_evaluation"] = latency / nfe if latency and nfe else None
    arithmetic, limit = row["gflop_per_sample"], row["limit_gflop_per_s"]
    row["share_of_limit"] = arithmetic * speed / limit if arithmetic and speed and limit else None
    row["call"] = _call(record.dims, row["slices_per_call"])
    return row | {"device": device(record), "threads": threads(record)}


def _values(runs: Sequence[Run], metric: str) -> list[float]:
    return [value for run in runs if math.isfinite(value := run.record.score(metric))]


def _mean(runs: Sequence[Run], metric: str) -> float | None:
    values = _values(runs, metric)
    return math.fsum(values) / len(values) if values else None


def _largest(runs: Sequence[Run], metric: str) -> float | None:
    return max(_values(runs, metric), default=None)


def _memory(runs: Sequence[Run], kinds: tuple[tuple[str, str], ...]) -> tuple[float | None, str | None]:
    for metric, kind in kinds:
        if (value := _largest(runs, metric)) is not None:
            return value, kind
    return None, None


def _steps_samples(row: dict[str, Any]) -> str | None:
    steps, samples = row.get("steps"), row.get("samples")
    return None if steps is None or samples is None else f"{steps:g} \u00d7 {samples:g}"


def _call(dims: int, slices: float | None) -> str | None:
    if slices is None:
        return None
    if dims == 2:
        return "1 image"
    return "1 slice" if slices == 1 else f"{slices:g} slices"


def _collect_missing(row: dict[str, Any], of: Row, missing: Missing) -> None:
    titles = {column.key: column.title for column in COLUMNS} | {"latency": "Latency"}
    absent = [key for key in _REASONED if row["latency_ms_p50" if key == "latency" else key] is None]
    if len(absent) == len(_REASONED):
        absent, titles = ["latency"], {"latency": "Every cost of inference"}
    unmeasured = _NO_MODEL if of.record.profile == SCORED_FOLDER else _UNMEASURED
    for key in absent:
        missing.setdefault(titles[key], []).append((of.where, reason(of.runs, key) or unmeasured))


def _published(dataset: str, entries: list[Published], notes: list[str]) -> list[dict[str, Any]]:
    printed = numbers_of_paper(entries, ["4"])
    ledger = [e for e in printed if e.metric != "Dice" and same_dataset(dataset, e.dataset)]
    told: dict[tuple[str, str], list[str]] = {}
    for entry in ledger:
        if entry.metric in _TOLD:
            told.setdefault((_TOLD[entry.metric], entry.why), []).append(entry.method)
    for (title, why), methods in told.items():
        notes.append(f"Published {title} on {dataset}, {'; '.join(methods)}: not comparable: {why}.")
    rows = published_rows(dataset, ledger, [])
    for row in rows:
        row["steps_samples"] = _steps_samples(row)
        if row.get("samples") == 1:
            row["single_samples_per_s"] = row.get("samples_per_s")
        if "train_gpus" in row:
            row["train_memory"] = f"{row['train_memory_per_gpu_gb']:g} GB \u00d7 {row['train_gpus']:g} GPU"
        row["device"] = "V100" if row["method"].startswith("SDSeg") else None
    return rows
