"""Stability per cell: agreement of repeated draws of every test case (paper Table 5)."""

from __future__ import annotations

import numpy as np
import pytest

from bench.metrics.stability import STABILITY_METRICS, case_stability
from bench.record import Score, read_scores
from bench.runner import Run
from bench.scoring import ALL_DRAWS


def test_stability(run: Run, benchmark, publish) -> None:
    """Every test case has every stability score; the timed call compares the draws of one case (without LPIPS)."""
    draws = run.cell.config["draws"]
    if draws < 2:
        pytest.skip("draws=1: one draw has nothing to agree with")
    case_id = run.dataset.case_ids("test")[0]
    found = [run.folder.read_prediction(draw, case_id) for draw in range(draws)]
    scores, masks = (np.stack(x) for x in zip(*found, strict=True))
    benchmark.pedantic(case_stability, args=(scores, masks), rounds=1)
    frame = read_scores(run.folder.scores_path)
    frame = frame[frame["draw"] == ALL_DRAWS]
    expected = len(run.dataset.case_ids("test")) * len(run.dataset.spec.labels)
    rows = []
    for metric in STABILITY_METRICS:
        values = frame.loc[frame["metric"] == metric.name, "value"]
        assert len(values) == expected, f"{metric.name}: {len(values)} rows, expected {expected}"
        if metric.unit == "dB":  # through the squared error: identical draws are infinite and must count
            value = float(-10 * np.log10(np.nanmean(10 ** (-values / 10)))) if (values < np.inf).any() else np.inf
        else:
            value = values.mean()
        rows.append(Score(metric=metric.name, value=value, unit=metric.unit, better=metric.better))
    publish(rows, into_record=False)
