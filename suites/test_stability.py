"""Stability per cell: agreement of repeated draws of every test case (paper Table 5)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.metrics.stability import StabilityMetric, stability_metrics
from bench.protocols import build_protocol
from bench.protocols.stability import protocol_stability, stability_mode
from bench.record import Score, read_scores
from bench.runner import Run
from bench.scoring.run import ALL_DRAWS


def test_stability(run: Run, benchmark, publish) -> None:
    """Every test case has every stability score; the timed call compares the draws of one case (without LPIPS)."""
    draws = run.cell.config["draws"]
    if draws < 2:
        pytest.skip("draws=1: one draw has nothing to agree with")
    protocol = build_protocol(**run.cell.config["protocol"])
    case = run.dataset.case(run.dataset.case_ids("test")[0])
    found = [run.folder.read_prediction(draw, case.id) for draw in range(draws)]
    scores, masks = (np.stack(x) for x in zip(*found, strict=True))
    benchmark.pedantic(lambda: list(protocol_stability(protocol, case.reference, scores, masks)), rounds=1)
    frame = read_scores(run.folder.scores_path)
    frame = frame[frame["draw"] == ALL_DRAWS]
    expected = len(run.dataset.case_ids("test")) * len(run.dataset.spec.labels)
    rows = []
    for metric in stability_metrics(stability_mode(protocol.name)):
        values = frame.loc[frame["metric"] == metric.name, "value"]
        assert len(values) == expected, f"{metric.name}: {len(values)} rows, expected {expected}"
        name, unit, better, convention = metric
        value = over_cases(frame, metric)
        rows.append(Score(metric=name, value=value, unit=unit, better=better, convention=convention))
    publish(rows, into_record=False)


def over_cases(frame: pd.DataFrame, metric: StabilityMetric) -> float:
    """A run's one number: the mean over cases, or over images as the paper has it, and the sum of counts."""
    table = frame.set_index(["case", "label", "metric"])["value"].unstack()
    values = table[metric.name]
    if metric.unit in ("images", "pairs"):
        return float(values.sum())
    if metric.convention == "sdseg":
        images = table[f"images/{metric.name}"].where(values.notna(), 0)
        return float((values * images).sum() / images.sum()) if images.any() else np.nan
    if metric.unit == "dB":  # through the squared error: identical draws are infinite and must count
        error = (10 ** (-values / 10)).mean()
        return float(-10 * np.log10(error)) if error else np.inf
    return float(values.mean())
