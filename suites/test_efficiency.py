"""Cost per cell: answers per second, latency, peak memory, parameters, arithmetic (paper Table 4)."""

from __future__ import annotations

import pytest

from bench.measure.cost import footprint_scores, latency_scores
from bench.measure.latency import LatencyResult, synchronize, warm_up
from bench.measure.targets import predict_call, slices_per_call
from bench.runner import Run
from suites.reference_workload import ReferenceWorkload


def test_speed(run: Run, batch_size: int, benchmark, publish) -> None:
    """Predict a batch end to end: encode, denoise, decode; the device is drained around every call."""
    segmenter, measure = run.segmenter(), run.cell.config["measure"]
    if segmenter.model is None:
        pytest.skip("stored predictions have no network to time")
    slices = slices_per_call(segmenter, run.cell.config)
    call = predict_call(segmenter, run.dataset.spec, batch_size, slices)
    device = getattr(segmenter, "device", "cpu")

    def timed() -> object:
        answer = call()
        synchronize(device)
        return answer

    limits = {key: measure[key] for key in ("rounds", "warmup", "seconds")}
    rounds, workload = warm_up(timed, **limits), ReferenceWorkload(device)
    answer = benchmark.pedantic(timed, setup=workload, rounds=rounds)
    assert answer.mask.shape[0] == batch_size
    seconds = list(benchmark.stats.stats.data)
    timings = {f"predict_batch{batch_size}": workload.timing(seconds)}
    publish(latency_scores(LatencyResult(seconds, batch_size), slices), timings=timings)


def test_footprint(run: Run, benchmark, publish) -> None:
    """Peak memory of one prediction and of training, each in a process of its own, and the arithmetic."""
    if run.segmenter().model is None:
        pytest.skip("stored predictions have no network to measure")
    scores = benchmark.pedantic(footprint_scores, args=(run,), rounds=1)
    assert all(score.value > 0 for score in scores)
    publish(scores)
