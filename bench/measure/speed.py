"""The call whose seconds are a method's speed, and its rounds beside the reference workload."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bench import progress
from bench.config import Cell
from bench.device import synchronize
from bench.measure.cost import footprint_scores, keep_costs, known_rounds, latency_scores
from bench.measure.latency import warm_up
from bench.measure.targets import predict_call, slices_per_call
from bench.measure.workload import ReferenceWorkload
from bench.record import Timing
from bench.runner import Run


def timed_call(run: Run, batch: int) -> Callable[[], object]:
    """Predict a batch end to end: encode, denoise, decode; the device is drained at its end."""
    segmenter, device = run.segmenter(), run.device()
    call = predict_call(segmenter, run.dataset.spec, batch, slices_per_call(segmenter, run.cell.config))

    def timed() -> object:
        answer = call()
        synchronize(device)
        return answer

    return timed


def measure_cell(cell: Cell) -> Path:
    """Measure speed, memory and arithmetic of a scored run into its record, as `suites/test_efficiency.py` does.

    What the record holds of this machine, by the same code and settings, stays. Stored predictions have no cost.
    Returns the run folder; raises InputError for a run that is not scored.
    """
    run, config = Run(cell), cell.config
    progress.label_cell(f"{cell.dataset} {cell.method} seed {cell.seed}:")
    segmenter = run.segmenter()
    if segmenter.model is None:
        return run.folder.path
    with run.folder.locked():
        keep_costs(run, [])  # costs of another machine go
        for batch in config["measure"]["batch_sizes"]:
            name = f"predict_batch{batch}"
            timing = known_rounds(run, name) or time_rounds(run, batch)
            scores = latency_scores(timing.seconds, batch, slices_per_call(segmenter, config))
            keep_costs(run, scores, {name: timing})
        keep_costs(run, footprint_scores(run))
    return run.folder.path


def time_rounds(run: Run, batch: int) -> Timing:
    """Seconds of a predicted batch, round by round, each right after the reference workload."""
    call, settings = timed_call(run, batch), run.cell.config["measure"]
    rounds = warm_up(call, **{key: settings[key] for key in ("rounds", "warmup", "seconds")})
    workload, seconds = ReferenceWorkload(run.device()), []
    for number in range(rounds):
        workload()
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
        progress.report(f"timing batches of {batch}", number + 1, rounds)
    return workload.timing(seconds)
