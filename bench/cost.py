"""What a fitted method costs: latency, memory in processes of their own, parameters, arithmetic."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from bench.build import build_segmenter
from bench.environment import environment_facts, machine
from bench.measure.complexity import count_gflop, count_parameters
from bench.measure.latency import LatencyResult
from bench.measure.memory import MemoryResult, measure_peak_memory
from bench.record import RunRecord, Score
from bench.runner import Run, task_facts, task_of
from bench.seeding import CaseGenerator
from bench.types import Segmenter, TaskSpec

MEMORY = ("peak_allocated_mib", "peak_reserved_mib", "peak_rss_mib")
FOOTPRINT = (
    *MEMORY,
    *(f"train_{name}" for name in MEMORY),
    "parameters_m",
    "gflop_per_sample",
    "nfe",
    "steps",
    "samples",
)

# Slices of a volume that one timed call of a three-dimensional method sees.
_DEPTH = 32


def predict_call(segmenter: Segmenter, task: TaskSpec, batch: int) -> Callable[[], object]:
    """A call that predicts `batch` images of the task's size (for a 3-D method: blocks of 32 slices)."""
    shape = (batch, task.channels, *([_DEPTH] if segmenter.dims == 3 else []), *task.image_size)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return lambda: segmenter.predict(image, [CaseGenerator(0, f"timing-{i}", 0) for i in range(batch)])


def complexity_scores(segmenter: Segmenter, task: TaskSpec) -> list[Score]:
    """Parameters, GFLOP per sample, network evaluations, steps and samples; nothing for a method without network."""
    if segmenter.model is None:
        return []
    millions = count_parameters(segmenter.model).total / 1e6  # before a prediction, which may fold constants away
    gflop = count_gflop(predict_call(segmenter, task, 1))
    evaluations = segmenter.evaluations * segmenter.samples
    return [
        Score(metric="parameters_m", value=millions, unit="M", better="lower"),
        Score(metric="gflop_per_sample", value=gflop, unit="GFLOP", better="lower", note="2 per multiply-add"),
        Score(metric="nfe", value=evaluations, better="lower", note="network evaluations per prediction"),
        Score(metric="steps", value=segmenter.evaluations, better="lower"),
        Score(metric="samples", value=segmenter.samples, better="lower"),
    ]


def latency_scores(result: LatencyResult) -> list[Score]:
    """Throughput of a batch size; at batch 1 the latency too."""
    note = f"batch {result.batch}"
    scores = [
        Score(
            metric=f"samples_per_s_batch{result.batch}",
            value=result.samples_per_s,
            unit="1/s",
            better="higher",
        )
    ]
    if result.batch == 1:
        for name, seconds in (("latency_ms_p50", result.p50), ("latency_ms_p95", result.p95)):
            scores.append(Score(metric=name, value=seconds * 1000, unit="ms", better="lower", note=note))
        scores.append(Score(metric="samples_per_s", value=result.samples_per_s, unit="1/s", better="higher", note=note))
    return scores


def footprint_scores(run: Run) -> list[Score]:
    """Peak memory of predicting and of training, each in a fresh process, and the arithmetic of a prediction.

    They depend on the run and the machine alone: what the record holds (of this machine, see `on_this_machine`) is not
    measured again.
    """
    known = [s for s in run.folder.read_record().scores if s.metric in FOOTPRINT]
    if known:
        return known
    argument = {"config": run.cell.config, "task": task_facts(run.dataset.spec), "model": str(run.folder.model)}
    targets = {"": "bench.cost:predict_target"}
    if run.cell.config["method"].get("recipe"):
        targets["train_"] = "bench.cost:train_target"
    with ThreadPoolExecutor() as pool:  # two processes at once take no memory from each other
        results = pool.map(lambda target: measure_peak_memory(target, argument), targets.values())
        scores = [s for prefix, r in zip(targets, results, strict=True) for s in _memory_rows(prefix, r)]
    return scores + complexity_scores(build_segmenter(run.cell.config, run.dataset.spec), run.dataset.spec)


def on_this_machine(record: RunRecord) -> RunRecord:
    """The record with this machine's facts; costs measured on another one (or with other threads) are dropped."""
    facts = environment_facts()
    if machine(facts) == machine(record.environment):
        return record
    kept = [s for s in record.scores if s.metric.startswith("train_") and s.metric not in FOOTPRINT]
    return record.model_copy(update={"environment": facts, "scores": kept})


def _memory_rows(prefix: str, result: MemoryResult) -> list[Score]:
    values = {"peak_allocated_mib": result.peak_allocated_mib, "peak_reserved_mib": result.peak_reserved_mib}
    notes = {"rss": "resident memory of the process", "rss_process": "resident memory, life of the process"}
    if result.kind != "cuda":
        values = {"peak_rss_mib": result.peak_rss_mib}
    note = notes.get(result.kind, "torch allocator")
    return [
        Score(metric=prefix + name, value=value, unit="MiB", better="lower", note=note)
        for name, value in values.items()
        if value is not None
    ]


def predict_target(argument: dict[str, Any]) -> Callable[[], object]:
    """For the memory process: predict one image with the fitted method."""
    task = task_of(argument["task"])
    segmenter = build_segmenter(argument["config"], task)
    segmenter.load(Path(argument["model"]))
    return predict_call(segmenter, task, 1)


def train_target(argument: dict[str, Any]) -> Callable[[], object]:
    """For the memory process: two training steps of the method's own batch size on random data."""
    task, config = task_of(argument["task"]), argument["config"]
    method = {**config["method"], "recipe": {**config["method"]["recipe"], "steps": 2, "workers": 0}}
    dims = build_segmenter(config, task).dims
    items = _random_items(task, dims, config["method"]["recipe"].get("batch_size", 1))

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            build_segmenter({**config, "method": method}, task).fit(items, items[:1], Path(folder))

    return call


def _random_items(task: TaskSpec, dims: int, count: int) -> list[dict[str, Any]]:
    size = (*([_DEPTH] if dims == 3 else []), *task.image_size)
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.rand((task.channels, *size), generator=generator) * 2 - 1,
            "mask": torch.rand((len(task.labels), *size), generator=generator) > 0.8,
            "case_id": str(i),
        }
        for i in range(count)
    ]
