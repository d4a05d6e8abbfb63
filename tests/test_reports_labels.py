"""Accuracy by label: one row each, the same digits as a plain mean, nothing where there is one label."""

from __future__ import annotations

from pathlib import Path

from reports.frame import read_frame
from reports.tables import labels
from tests.report_fixtures import made_up_scores, write_run


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
    assert "sdseg measure, with the words that sdseg run was given, measures it" in note
