"""Large reports: what is read or computed once, and that the short ways end at the same numbers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import cli
from bench.scores import read_run_scores
from bench.stats import case_table, compare, sign_flip_p
from bench.stats.intervals import bootstrap_medians
from bench.stats.sample import resampled_counts
from reports import figures
from reports import frame as frames
from reports.figures import build_figures, drawn_meanwhile
from reports.figures.style import LARGEST
from reports.frame import read_frame
from reports.tables import build_tables
from tests.report_fixtures import made_up_scores, write_run


def write_many(runs_dir: Path, methods: int, seeds: int = 1) -> None:
    for method in range(methods):
        for seed in range(seeds):
            scores = made_up_scores(0.9 - 0.01 * method, n=6, draws=1)
            write_run(runs_dir, f"method{method:03d}", seed=seed, scores=scores)


def test_a_report_reads_every_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_many(tmp_path, methods=3, seeds=2)
    read: list[Path] = []
    monkeypatch.setattr(
        frames, "read_run_scores", lambda path, record: (read.append(path), read_run_scores(path, record))[1]
    )
    assert cli.main(["report", "--runs", str(tmp_path)]) == 0
    assert len(read) == len(set(read)) == 6


def test_p_of_all_pairs_is_that_of_each() -> None:
    rng = np.random.default_rng(0)
    cases = [str(i) for i in range(60)]
    base = rng.beta(8, 2, 60)
    runs = {f"m{k}": dict(zip(cases, base + rng.normal(0, 0.01, 60), strict=True)) for k in range(4)}
    runs["tied"] = {**runs["m0"], "0": 0.1}
    runs["partly"] = {**runs["m1"], "3": np.nan}
    table = case_table(runs, {case: f"g{int(case) // 2}" for case in cases})
    p_values = sign_flip_p(table)
    assert len(p_values) == 15
    assert p_values == {pair: compare(table, *pair).p for pair in p_values}


@pytest.mark.parametrize("cases", [1, 7, 100])
def test_medians_of_resamples_are_exact(cases: int) -> None:
    """The middle is looked at first: all values where groups of very unequal size carry a median out of it."""
    rng = np.random.default_rng(cases)
    values = rng.normal(size=cases)
    numbers = np.unique(np.minimum(rng.geometric(0.4, cases), 5), return_inverse=True)[1]
    found = bootstrap_medians(values, numbers, resamples=200)
    (counts,) = resampled_counts(int(numbers.max()) + 1, 200)
    by_hand = [np.median(np.repeat(values, times[numbers].astype(int))) for times in counts]
    assert found == pytest.approx(by_hand, abs=0)


def test_figures_of_many_methods_show_the_best_and_say_so(tmp_path: Path) -> None:
    write_many(tmp_path, methods=LARGEST + 5)
    frame = read_frame(tmp_path)
    (ranking,) = (table for table in build_tables(frame) if table.name == "ranking")
    assert len(ranking.rows) == LARGEST + 5
    for drawing in build_figures(frame):
        assert f"The best {LARGEST} of {LARGEST + 5} methods" in drawing.caption
        assert "method000" in drawing.alt
        assert f"method{LARGEST + 4:03d}" not in drawing.alt


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux draws in another process")
@pytest.mark.parametrize("dies", [False, True])
def test_figures_of_another_process_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: bool) -> None:
    write_many(tmp_path, methods=3)
    broken = tmp_path / "runs-of-mine" / "gallery" / "000-case.npz"
    write_run(tmp_path, "other", scores=made_up_scores(0.5, n=6, draws=1)).rename(broken.parents[1])
    broken.parent.mkdir(exist_ok=True)
    broken.write_bytes(b"no picture")
    alone, frame = read_frame(tmp_path), read_frame(tmp_path)
    expected = build_figures(alone)
    if dies:
        monkeypatch.setattr(figures, "_draw", lambda frame, there: os._exit(1))
    with drawn_meanwhile(frame, many=4) as drawn:
        if not dies:
            monkeypatch.setattr(figures, "build_figures", None)  # the other process has it, this one need not
        assert drawn() == expected
    assert frame.warnings == alone.warnings != []
