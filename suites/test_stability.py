"""Stability per cell: agreement of repeated draws of every test case (paper Table 5)."""

from __future__ import annotations

import numpy as np
import pytest

from bench.metrics.stability import stability_metrics
from bench.protocols import build_protocol
from bench.protocols.stability import protocol_stability, stability_mode
from bench.record import Score
from bench.runner import Run
from bench.scores import agreement


def test_stability(run: Run, benchmark, publish) -> None:
    """Every test case has every stability score; the timed call compares the draws of one case (without LPIPS)."""
    draws = run.cell.config["draws"]
    if draws < 2:
        pytest.skip("draws=1: one draw has nothing to agree with")
    protocol = build_protocol(**run.cell.config["protocol"])
    case = run.dataset.case(run.dataset.case_ids("test")[0])
    predictions = [run.folder.read_prediction(draw, case.id) for draw in range(draws)]
    scores, masks = (np.stack(x) for x in zip(*predictions, strict=True))
    benchmark.pedantic(lambda: list(protocol_stability(protocol, case.reference, scores, masks)), rounds=1)
    run_scores = run.folder.run_scores()
    expected = len(run.dataset.case_ids("test")) * len(run.dataset.spec.labels)
    rows = []
    for name, facts in stability_metrics(stability_mode(protocol.name)).items():
        scored = len(run_scores.rows(name, single=False))
        assert scored == expected, f"{name}: {scored} rows, expected {expected}"
        summary, (convention,) = agreement([run_scores], name, facts), run_scores.conventions(name, single=False)
        value = summary.count if facts.kind == "count" else summary.mean
        told = {"unit": facts.unit, "better": facts.better, "convention": convention, "note": summary.why}
        rows.append(Score(metric=name, value=value, **told))
    publish(rows, into_record=False)
