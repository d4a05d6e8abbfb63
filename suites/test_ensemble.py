"""Ensembles per cell: one prediction of 25 samples of 50 steps (paper Table 4), drawn together and one by one."""

from __future__ import annotations

from typing import Any

import pytest

from bench.datasets.geometry import to_method_size
from bench.device import synchronize
from bench.measure.interleaved import measure_interleaved
from bench.record import Score
from bench.runner import Run, load_segmenter
from bench.seeding import CaseGenerator

STEPS, SAMPLES = 50, 25
ROUNDS = 3
# Rounding depends on how many samples share a call, and a chain of steps carries it on.
SCORE_DIFFERENCE, FLIPPED = 1e-3, 1e-3


def with_batch(config: dict[str, Any], max_batch: int) -> dict[str, Any]:
    """The configuration with the published steps and samples, `max_batch` of which share a call."""
    inference = config["method"]["inference"] | {"steps": STEPS, "samples": SAMPLES, "max_batch": max_batch}
    return {**config, "method": {**config["method"], "inference": inference}}


def test_ensemble(run: Run, benchmark, publish) -> None:
    """The same answer either way; the ratio of the times goes into the record."""
    config, task = run.cell.config, run.dataset.spec
    if "max_batch" not in config["method"].get("inference", {}):
        pytest.skip("this method draws no ensembles")
    batches = {"together": SAMPLES, "one_by_one": 1}
    segmenters = {n: load_segmenter(with_batch(config, b), task, run.folder) for n, b in batches.items()}
    image = to_method_size(run.dataset.case(run.dataset.case_ids("test")[0]).image, task)
    image = (image if image.ndim == 3 else image[:, image.shape[1] // 2])[None]
    answers: dict[str, Any] = {}

    def call(name: str) -> None:
        answers[name] = segmenters[name].predict(image, [CaseGenerator(run.cell.seed, "ensemble", 0)])

    result = benchmark.pedantic(
        measure_interleaved,
        args=({name: lambda name=name: call(name) for name in batches},),
        kwargs={
            "rounds": ROUNDS,
            "warmup": 0,
            "synchronize": lambda: synchronize(run.device()),
        },
        rounds=1,
    )
    together, alone = answers["together"], answers["one_by_one"]
    difference = float((together.score - alone.score).abs().max())
    flipped = float((together.mask != alone.mask).float().mean())
    ratio = result.speedup("together", "one_by_one")
    publish(
        [
            Score(
                metric="ensemble_speedup",
                value=ratio.value,
                better="higher",
                note=f"{SAMPLES} samples of {STEPS} steps; 95 % interval {ratio.low:.2f} to {ratio.high:.2f}",
            ),
            Score(metric="ensemble_s", value=result.per_sample("together"), unit="s", better="lower"),
            Score(metric="ensemble_score_difference", value=difference, better="lower"),
            Score(metric="ensemble_flipped", value=flipped, better="lower", note="share of pixels"),
        ]
    )
    assert difference <= SCORE_DIFFERENCE, f"scores differ by {difference:.1e}"
    assert flipped <= FLIPPED, f"{flipped:.1e} of all pixels decided otherwise"
