"""From score rows to the value of a run: one way, held to plain loops, with the same digits wherever it is printed."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.columns import squared_error
from bench.command.steps import summary
from bench.compare import compare_runs
from bench.gate.reference import run_facts
from bench.plugin import accuracy_scores
from bench.record import REASON, MetricFacts, Undefined, read_record
from bench.results.store import RunFolder
from bench.scores import RunScores, agreement, decibels, mean_defined, summarise
from bench.scoring.card import card_facts
from reports.frame import read_frame
from reports.tables.accuracy import build
from tests.report_fixtures import made_up_scores, score_rows, write_run

SHARE = MetricFacts(kind="share", low=0, high=1, better="higher")
# Two labels, two draws, one value undefined: labels within a draw first give 1 and .5, so .75.
TWICE = [("a", 0, 1.0), ("b", 0, math.nan), ("a", 1, 1.0), ("b", 1, 0.0)]


def scores_of(rows: list[tuple[str, int, float]], cases: int = 1, metric: str = "Dice") -> RunScores:
    return RunScores(score_rows([(f"c{i}", f"g{i}", *row[:2], metric, row[2]) for i in range(cases) for row in rows]))


def by_hand(rows: pd.DataFrame, decibel: bool = False) -> dict[str, float]:
    tree: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows.itertuples():
        tree[str(row.case)][int(row.draw)].append(10 ** (-row.value / 10) if decibel else row.value)
    return {case: mean_defined([mean_defined(labels) for labels in draws.values()]) for case, draws in tree.items()}


@pytest.mark.parametrize("decibel", [False, True])
def test_means_by_case_are_those_of_plain_loops(decibel: bool) -> None:
    rng = np.random.default_rng(0)
    frame = made_up_scores(0.8, n=20, labels=2, seed=1)
    frame.loc[rng.random(len(frame)) < 0.1, "value"] = np.nan
    frame = frame[frame["metric"] == "Dice"].sample(frac=0.9, random_state=0)
    values = RunScores(frame).values("Dice", MetricFacts(unit="dB") if decibel else SHARE).values
    assert values.to_dict() == pytest.approx(by_hand(frame, decibel), nan_ok=True)


def test_a_count_of_images_is_no_share_of_cases() -> None:
    images = MetricFacts(unit="images", kind="count", low=0)
    scores = scores_of([("a", 0, 9.0)], cases=12, metric="images/SSIM/seg")
    assert scores.summary("images/SSIM/seg", images).interval == (9, 9)


def test_infinite_values_make_their_case_and_the_mean_infinite() -> None:
    rows = [(f"c{i}", f"c{i}", "a", draw, "ASSD", float(i)) for i in range(12) for draw in range(2)]
    rows[0] = (*rows[0][:-1], math.inf)
    summarised = RunScores(score_rows(rows)).summary(
        "ASSD", MetricFacts(unit="mm", better="lower", kind="distance", low=0)
    )
    assert (summarised.mean, summarised.interval, summarised.infinite, summarised.cases) == (math.inf, None, 1, 11)
    assert math.isnan(summarised.sd)
    assert math.isinf(summarised.every["c0"])


def test_decibels_are_averaged_through_the_squared_error() -> None:
    rows = [(f"c{i}", f"c{i}", "a", -1, "PSNR/seg", value) for i, value in enumerate([math.inf, 20.0, 10.0])]
    summary = agreement([RunScores(score_rows(rows))], "PSNR/seg", MetricFacts(unit="dB", better="higher"))
    assert summary.mean == pytest.approx(-10 * math.log10((0 + 0.01 + 0.1) / 3))
    assert (summary.infinite, summary.cases) == (1, 3)
    assert float(decibels(squared_error(33.0))) == pytest.approx(33.0)


def test_intervals_hold_no_value_that_the_metric_cannot_take() -> None:
    rng = np.random.default_rng(0)
    rows = [(f"c{i}", f"c{i}", "a", 0, "Dice", float(v)) for i, v in enumerate([0.2, *(1 - 0.01 * rng.random(11))])]
    scores = RunScores(score_rows(rows))
    bounded, free = (scores.summary("Dice", facts).interval for facts in (SHARE, MetricFacts()))
    assert free[1] > 1 == bounded[1]
    assert free[0] == bounded[0]


def test_a_count_is_a_sum_over_cases_and_labels_of_the_mean_over_draws_and_seeds() -> None:
    rows = [("a", 0, 1.0), ("b", 0, 1.0), ("a", 1, 1.0), ("b", 1, 0.0)]
    facts = MetricFacts(unit="cases", kind="count", low=0, high=1)
    one, other = scores_of(rows, 6, "missed"), scores_of([(*row[:2], 0.0) for row in rows], 6, "missed")
    assert one.summary("missed", facts).count == pytest.approx(6 * 1.5)
    both = summarise([(s.values("missed", facts), s.groups) for s in (one, other)], facts)
    assert both.count == pytest.approx(6 * 0.75)


def test_reasons_are_counted_where_values_are_undefined() -> None:
    reason = Undefined("both masks are empty")
    frame = score_rows([(f"c{i}", f"c{i}", "a", 0, "Dice", reason if i < 3 else 0.5) for i in range(5)])
    frame[REASON] = [getattr(value, "reason", "") for value in [reason] * 3 + [0.5] * 2]
    summarised = RunScores(frame).summary("Dice", SHARE)
    assert (summarised.why, summarised.undefined, summarised.excluded, summarised.cases) == (reason.reason, 3, 3, 2)
    assert mean_defined([reason, math.nan]) is reason


def test_an_older_record_says_its_facts_in_words(tmp_path: Path) -> None:
    """Units, notes and directions of plug-ins stood in `data`; the rest is known of the metrics of that time."""
    words = {
        "metric HD95": "px; larger one",
        "metric NSD": "tolerance 2 mm",
        "metric Area": "mm2",
        "better Area": "lower",
    }
    config = {"method": {}, "metrics": ["Dice", "HD95", "NSD", "missed", "Area"]}
    path = write_run(tmp_path, metrics={}, config=config, data={**words, "metric missed": "cases"})
    facts = read_record(path / "record.json").metrics
    assert (facts["HD95"].unit, facts["HD95"].note, facts["NSD"].note) == ("px", "larger one", "tolerance 2 mm")
    assert (facts["Area"].unit, facts["Area"].better, facts["missed"].kind) == ("mm2", "lower", "count")
    assert (facts["Dice"].high, facts["HD95"].high, facts["PSNR/seg"].unit) == (1, math.inf, "dB")


def test_every_place_prints_the_same_number(tmp_path: Path) -> None:
    rows = [(f"c{i:02d}", f"c{i:02d}", label, draw, "Dice", v) for i in range(12) for label, draw, v in TWICE]
    paths = [write_run(tmp_path, method=name, scores=score_rows(rows), labels=["a", "b"]) for name in ("one", "two")]
    folder, frame = RunFolder(paths[0]), read_frame(tmp_path)
    scores, record = folder.run_scores(), read_record(paths[0] / "record.json")
    assert {row["Dice"] for row in build(frame).rows} == {0.75}
    assert "Dice 0.7500" in summary(paths[0])
    assert "0.7500  0.7500" in compare_runs(*paths).table()
    assert card_facts(record, scores)["scores"]["test Dice"].startswith("0.7500 [0.7500, 0.7500]")
    assert accuracy_scores(scores, ["Dice"], len(rows))[0].value == 0.75
    (paths[1] / "scores.parquet").unlink()
    assert summary(paths[1]) == ""  # a table that is gone stops no other run
    values = run_facts(paths[0]).accuracy
    assert json.dumps([values[f"Dice {label}"].values[0] for label in "ab"]) == "[1.0, 0.0]"


def test_the_release_weighs_a_case_by_its_images_and_averages_decibels() -> None:
    values = [
        ("c0", "PSNR/seg", 10.0),
        ("c1", "PSNR/seg", 40.0),
        ("c0", "images/PSNR/seg", 3.0),
        ("c1", "images/PSNR/seg", 1.0),
    ]
    scores = RunScores(score_rows([(case, case, "a", -1, name, value) for case, name, value in values], "sdseg"))
    summary = agreement([scores], "PSNR/seg", MetricFacts(unit="dB", better="higher"), "a")
    assert (summary.mean, summary.interval) == (pytest.approx((3 * 10 + 40) / 4), None)
