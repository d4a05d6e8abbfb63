"""Cost per cell: answers per second, latency, peak memory, parameters, arithmetic (paper Table 4)."""

from __future__ import annotations

import pytest

from bench.measure.cost import footprint_scores, known_rounds, latency_scores
from bench.measure.latency import warm_up
from bench.measure.limit import limit_scores
from bench.measure.speed import timed_call
from bench.measure.targets import slices_per_call
from bench.measure.workload import ReferenceWorkload
from bench.runner import Run


def test_speed(run: Run, batch_size: int, benchmark, publish, request: pytest.FixtureRequest) -> None:
    """Predict a batch end to end: encode, denoise, decode; the device is drained around every call.

    Rounds that the record holds stay, and one call shows that it still works; the gate wants rounds of its session.
    """
    segmenter, measure = run.segmenter(), run.cell.config["measure"]
    if segmenter.model is None:
        pytest.skip("stored predictions have no network to time")
    slices = slices_per_call(segmenter, run.cell.config)
    timed = timed_call(run, batch_size)
    name = f"predict_batch{batch_size}"
    known = known_rounds(run, name) if request.config.getoption("--gate", None) is None else None
    if known is not None:
        answer, timing = benchmark.pedantic(timed, warmup_rounds=1, rounds=1), known
    else:
        limits = {key: measure[key] for key in ("rounds", "warmup", "seconds")}
        rounds, workload = warm_up(timed, **limits), ReferenceWorkload(run.device())
        answer = benchmark.pedantic(timed, setup=workload, rounds=rounds)
        timing = workload.timing(list(benchmark.stats.stats.data))
    assert answer.mask.shape[0] == batch_size
    limit = [] if known is not None else limit_scores(run.device())
    publish([*latency_scores(timing.seconds, batch_size, slices), *limit], timings={name: timing})


def test_footprint(run: Run, benchmark, publish) -> None:
    """Peak memory of one prediction and of training, each in a process of its own, and the arithmetic."""
    if run.segmenter().model is None:
        pytest.skip("stored predictions have no network to measure")
    scores = benchmark.pedantic(footprint_scores, args=(run,), rounds=1)
    assert all(score.value > 0 for score in scores)
    publish(scores)
