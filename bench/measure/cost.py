"""What a fitted method costs: latency, memory in processes of their own, parameters, arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bench import progress
from bench.errors import InputError
from bench.measure.complexity import count_gflop, count_parameters, evaluations_counted
from bench.measure.memory import MemoryResult, measure_peak_memory
from bench.measure.targets import predict_call, slices_per_call
from bench.record import RunRecord, Score, Timing
from bench.results.environment import device_facts, environment_facts, machine
from bench.results.reuse import code_state
from bench.runner import Run, load_segmenter
from bench.types import Segmenter, TaskSpec

MEMORY = ("peak_allocated_mib", "peak_reserved_mib", "peak_rss_mib")
_AGAIN = "--redo predict measures again"
FOOTPRINT = (
    *MEMORY,
    *(f"train_{name}" for name in MEMORY),
    "parameters_m",
    "gflop_per_sample",
    "nfe",
    "steps",
    "samples",
    "slices_per_call",
)


def complexity_scores(segmenter: Segmenter, task: TaskSpec, slices: int = 1) -> list[Score]:
    """Parameters, GFLOP, network evaluations, steps and samples of a prediction; nothing for a method without network.

    A 3-D method predicts one block of `slices` slices; the arithmetic is by slice, the evaluations of the block.
    """
    if segmenter.model is None:
        return []
    millions = count_parameters(segmenter.model) / 1e6  # before a prediction, which may rewrite it
    with evaluations_counted(segmenter.model) as counted:
        gflop = count_gflop(predict_call(segmenter, task, 1, slices)) / slices
    stated = segmenter.evaluations * segmenter.samples
    note = "counted" if counted() else "as the method states"
    return [
        Score(metric="parameters_m", value=millions, unit="M", better="lower"),
        Score(metric="gflop_per_sample", value=gflop, unit="GFLOP", better="lower", note="2 per multiply-add"),
        Score(metric="nfe", value=counted() or stated, better="lower", note=f"network evaluations of a call, {note}"),
        Score(metric="steps", value=segmenter.evaluations, better="lower"),
        Score(metric="samples", value=segmenter.samples, better="lower"),
        Score(metric="slices_per_call", value=slices, note="what one timed call of a 3-D method is shown"),
    ]


def latency_scores(seconds: list[float], batch: int, slices: int = 1) -> list[Score]:
    """Images (or slices) answered per second, of the seconds of every call at a batch size; the latency too at batch 1.

    An answer is a finished mask: where samples are fused, all of them are behind it. Quantiles are linear.
    """
    note = f"batch {batch}, median of {len(seconds)} calls"
    p50, p95 = (float(np.percentile(seconds, share)) for share in (50, 95))
    answers = batch / p50 * slices if p50 > 0 else math.inf
    rate = Score(metric="samples_per_s", value=answers, unit="1/s", better="higher", note=note)
    scores = [rate.model_copy(update={"metric": f"samples_per_s_batch{batch}"})]
    if batch == 1:
        for name, value in (("latency_ms_p50", p50), ("latency_ms_p95", p95)):
            scores.append(Score(metric=name, value=value * 1000, unit="ms", better="lower", note=note))
        scores.append(rate)
    return scores


def footprint_scores(run: Run) -> list[Score]:
    """Peak memory of predicting and of training, each in a fresh process, and the arithmetic of a prediction.

    They depend on the run and the machine alone: what the record holds (of this machine, see `on_this_machine`, and not
    of other code) is not measured again, which is said.
    """
    record = run.folder.read_record()
    known = [s for s in record.scores if s.metric in FOOTPRINT]
    if known and code_state(record) != "other":
        progress.note(f"{run.cell.id}: reused: memory and arithmetic; {_AGAIN}")
        return known
    config, task = run.cell.config, run.dataset.spec
    argument = {"config": config, "task": task.facts(), "model": str(run.folder.model)}
    # A fit warms itself up: its first step is one, and nothing that it holds is gone at its second.
    calls = {"": ("predict_target", True), "train_": ("train_target", False)}
    if not config["method"].get("recipe"):
        del calls["train_"]
    with ThreadPoolExecutor() as pool:  # two processes at once take no memory from each other
        waiting = {
            prefix: pool.submit(measure_peak_memory, f"bench.measure.targets:{name}", argument, warmup=warmup)
            for prefix, (name, warmup) in calls.items()
        }
    scores = [row for prefix, measured in waiting.items() for row in _memory_rows(prefix, measured.result())]
    segmenter = load_segmenter(config, task, run.folder)  # fresh: a prediction may have rewritten it
    return scores + complexity_scores(segmenter, task, slices_per_call(segmenter, config))


def known_rounds(run: Run, name: str) -> Timing | None:
    """The rounds of this name that the record holds (of this machine), and says so.

    None where there are none, where they were measured by other settings, or where the run is of other code.
    """
    record = run.folder.read_record()
    timing = record.timings.get(name)
    if timing is None or record.config.get("measure") != run.cell.config["measure"] or code_state(record) == "other":
        return None
    progress.note(f"{run.cell.id}: reused: {len(timing.seconds)} rounds of {name}; {_AGAIN}")
    return timing


def on_this_machine(record: RunRecord, device: str) -> RunRecord:
    """The record with the facts of this machine and of the type of device that is measured on it.

    Costs measured on another one (or with other threads) are dropped.
    """
    facts = environment_facts(device_facts(device))
    if machine(facts) == machine(record.environment):
        return record
    kept = [s for s in record.scores if s.metric.startswith("train_") and s.metric not in FOOTPRINT]
    return record.model_copy(update={"environment": facts, "scores": kept, "timings": {}})


def keep_costs(run: Run, scores: Sequence[Score], timings: Mapping[str, Timing] | None = None) -> None:
    """Put costs into the run's record, which keeps none of another machine; raises InputError where there is none."""
    with run.folder.locked():
        if not run.folder.record_path.exists():
            raise InputError(f"{run.folder.record_path}: not scored yet; use the verb run first")
        record = on_this_machine(run.folder.read_record(), run.device().type).with_scores(list(scores))
        run.folder.write_record(record.model_copy(update={"timings": {**record.timings, **(timings or {})}}))


def _memory_rows(prefix: str, result: MemoryResult) -> list[Score]:
    values = {"peak_allocated_mib": result.peak_allocated_mib, "peak_reserved_mib": result.peak_reserved_mib}
    notes = {"rss": "resident memory without mapped files", "rss_process": "resident memory, life of the process"}
    if result.kind != "cuda":
        values = {"peak_rss_mib": result.peak_rss_mib}
    note = notes.get(result.kind, "torch allocator")
    return [
        Score(metric=prefix + name, value=value, unit="MiB", better="lower", note=note)
        for name, value in values.items()
        if value is not None
    ]
