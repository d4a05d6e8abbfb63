"""Accuracy by label: one row each, the same digits as a plain mean, nothing where there is one label."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.record import read_scores
from reports.frame import read_frame
from reports.table import Table
from reports.tables import labels
from tests.report_fixtures import made_up_scores, write_run


def test_every_label_has_its_row_and_its_mean(tables: dict[str, Table], example: Path) -> None:
    table = tables["labels"]
    assert {row["dataset"] for row in table.rows} == {"btcv"}
    frame = read_frame(example)
    for row in table.rows:
        (run,) = (r for r in frame.runs if r.record.dataset == "btcv" and r.method == row["method"])
        scores = read_scores(run.path / "scores.parquet").query("metric == 'Dice' and draw >= 0")
        of_label = scores[(scores["label"] == row["label"]) & (scores["convention"] == row["convention"])]
        assert row["Dice"] == pytest.approx(of_label.groupby("case")["value"].mean().mean(), abs=1e-12)
    assert len({(row["method"], row["label"]) for row in table.rows}) == len(table.rows) == 9
    names = list(tables)
    assert names.index("labels") == names.index("table2") + 1


def test_two_seeds_of_24_cases_are_24_cases(tmp_path: Path) -> None:
    for seed in (0, 1):
        scores = made_up_scores(0.8, n=24, seed=seed, labels=2)
        write_run(tmp_path, "unet", seed=seed, scores=scores, run_scores={}, notes=[])
    rows = labels.build(read_frame(tmp_path)).rows
    assert {row["seeds"] for row in rows} == {"0, 1"}
    assert all(20 < row["cases"] <= 24 for row in rows)


def test_cost_that_was_not_measured_says_what_measures_it(tmp_path: Path) -> None:
    from reports.tables import cost

    write_run(tmp_path, "unet", seed=0, scores=made_up_scores(0.8, n=4), run_scores={}, notes=[])
    (note,) = (note for note in cost.build(read_frame(tmp_path)).notes if note.startswith("Every cost"))
    assert "pytest suites/test_efficiency.py --benchmark-only" in note
