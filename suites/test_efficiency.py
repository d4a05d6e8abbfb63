"""Cost per cell: samples per second, latency, peak memory, parameters, arithmetic (paper Table 4)."""

from __future__ import annotations

import pytest

from bench.cost import footprint_scores, latency_scores, predict_call
from bench.measure.latency import LatencyResult, synchronize
from bench.runner import Run


def test_speed(run: Run, batch_size: int, benchmark, publish) -> None:
    """Predict a batch end to end: encode, denoise, decode; the device is drained around every call."""
    segmenter, measure = run.segmenter(), run.cell.config["measure"]
    if segmenter.model is None:
        pytest.skip("stored predictions have no network to time")
    call = predict_call(segmenter, run.dataset.spec, batch_size)
    device = getattr(segmenter, "device", "cpu")

    def timed() -> object:
        answer = call()
        synchronize(device)
        return answer

    answer = benchmark.pedantic(timed, rounds=measure["rounds"], warmup_rounds=measure["warmup"])
    assert answer.mask.shape[0] == batch_size
    publish(latency_scores(LatencyResult(list(benchmark.stats.stats.data), batch_size)))


def test_footprint(run: Run, benchmark, publish) -> None:
    """Peak memory of one prediction and of training, each in a process of its own, and the arithmetic."""
    if run.segmenter().model is None:
        pytest.skip("stored predictions have no network to measure")
    scores = benchmark.pedantic(footprint_scores, args=(run,), rounds=1)
    assert all(score.value > 0 for score in scores)
    publish(scores)
