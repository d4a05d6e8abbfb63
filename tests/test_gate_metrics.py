"""The gate with every metric: equal runs pass, and one that got worse fails by the margin of its kind."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.gate import RunFacts
from bench.metrics import METRICS, Pair
from tests.gate_fixtures import failures, made, verdict
from tests.report_fixtures import score_rows

Change = Callable[[pd.Series], pd.Series]
CASES = 20


@cache
def every_metric() -> pd.DataFrame:
    """Discs found a little off; the last cases are missed, hallucinated and empty on both sides."""
    rng = np.random.default_rng(0)
    grid = np.mgrid[:32, :32]
    rows = []
    for index in range(CASES):
        centre, off = rng.uniform(10, 22, (2, 1, 1)), rng.integers(1, 3, (2, 1, 1))
        reference, prediction = (np.hypot(*(grid - c)) < 7 for c in (centre, centre + off))
        reference &= index < CASES - 2
        prediction &= index not in (CASES - 3, CASES - 1)
        score = np.clip(prediction * 0.8 + rng.uniform(0, 0.2, prediction.shape), 0, 1)
        pair = Pair(prediction, reference, (1.5, 1.5), score)
        rows += [(f"case-{index:03d}", f"p{index}", "lesion", 0, name, METRICS[name](pair)) for name in METRICS]
    return score_rows(rows)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    return made(tmp_path_factory.mktemp("whole"), every_metric(), draws=1)


def changed(folder: Path, metric: str, change: Change) -> RunFacts:
    frame = every_metric()
    at = frame["metric"] == metric
    return made(folder, frame.assign(value=frame["value"].mask(at, change(frame["value"]))), draws=1)


def test_two_equal_runs_pass_in_every_metric(whole: RunFacts) -> None:
    listed = [row for row in verdict(whole, whole).rows if row.kind == "accuracy"]
    assert [row.metric for row in listed] == list(METRICS)
    assert {row.verdict for row in listed} == {"pass: identical"}


def first_of(value: float) -> Change:
    """Another value in the first case alone."""
    return lambda values: values.mask(values.index < len(METRICS), value)


def test_psnr_is_judged_as_the_root_of_its_squared_error(tmp_path: Path) -> None:
    def at(decibels: float) -> RunFacts:
        rows = [(f"case-{i}", f"p{i}", "", -1, "PSNR/seg", decibels) for i in range(12)]
        return made(tmp_path / str(decibels), score_rows(rows), draws=2)

    (row,) = (row for row in verdict(at(20), at(14)).rows if row.metric == "PSNR/seg as RMS error")
    assert "gain -0.0995" in row.verdict  # 10 ** (-20 / 20) - 10 ** (-14 / 20)


CHANGES: dict[str, tuple[str, Change, str]] = {
    # what changed -> (metric, how, the reason why it fails or "")
    "a distance by two per cent": ("HD95", lambda v: v * 1.02, ""),
    "a distance by a tenth": ("HD95", lambda v: v * 1.1, "gain -"),
    "a distance for the better": ("ASSD", lambda v: v * 0.9, ""),
    "surfaces off": ("NSD", lambda v: (v - 0.02).clip(lower=0), "gain -0.01"),
    "one more case missed": ("missed", first_of(1), "gain -0.0500"),
    "one more hallucinated": ("hallucinated", first_of(1), "gain -0.0500"),
    "more cases empty on both sides": ("both_empty", first_of(1), ""),
    "volumes by half a point of a share": ("RelativeVolumeDifference", lambda v: v + 0.005, ""),
    "volumes by two points of a share": ("RelativeVolumeDifference", lambda v: v + 0.02, "gain -0.0200"),
    "volumes by a tenth": ("VolumeDifference", lambda v: v * 1.1, "gain -"),
    "a bias, which has no better direction": ("VolumeBias", lambda v: v + 1000, ""),
    "scores too sure": ("ECE", lambda v: v + 0.02, "gain -0.0200"),
    "one sensitivity lost": ("Sensitivity", first_of(np.nan), "newly undefined on 1 of 20 cases"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_one_changed_metric_is_judged_by_its_own_margin(what: str, whole: RunFacts, tmp_path: Path) -> None:
    metric, change, reason = CHANGES[what]
    now = verdict(whole, changed(tmp_path, metric, change))
    assert list(failures(now)) == ([metric] if reason else []), now.table()
    (row,) = (row for row in now.rows if row.metric == metric)
    assert reason in row.verdict
    assert "identical" not in row.verdict


@pytest.mark.parametrize(("metric", "worse"), [("HD95", 0.1), ("VolumeDifference", 1.0)])
def test_what_was_perfect_has_no_margin(metric: str, worse: float, tmp_path: Path) -> None:
    # A share of nothing is nothing: only the same passes, so that a perfect reference does not hide a first error.
    perfect = changed(tmp_path / "perfect", metric, lambda v: v * 0)
    assert verdict(perfect, perfect).passed
    judged = verdict(perfect, changed(tmp_path / "worse", metric, lambda v: v * 0 + worse))
    (row,) = (row for row in judged.rows if row.metric == metric)
    assert (row.passed, row.allowed) == (False, "gain > -0")
    assert verdict(perfect, changed(tmp_path / "allowed", metric, lambda v: v * 0 + worse), margins={metric: 2}).passed
