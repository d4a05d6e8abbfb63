"""Ranking, variance and published claims in the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.stats import case_table, compare, holm
from reports.build import build_report, render_terminal
from reports.contest import contests
from reports.frame import Frame, read_frame
from reports.table import Table
from reports.tables import ORDER, build_tables, ranking, variance
from tests.report_fixtures import score_rows, write_run

CASES = [f"case-{number:02d}" for number in range(40)]


def dice_rows(values: np.ndarray, cases: list[str] = CASES, noise: float = 0.0, draws: int = 2) -> pd.DataFrame:
    """Dice rows of cases by draw, each case its own group."""
    rng = np.random.default_rng(1)
    spread = rng.normal(0, noise, (len(cases), draws)) if noise else np.zeros((len(cases), draws))
    listed = [
        (case, case, "lesion", draw, "Dice", float(value + spread[row, draw]))
        for row, (case, value) in enumerate(zip(cases, values, strict=True))
        for draw in range(draws)
    ]
    return score_rows(listed)


@pytest.fixture
def frame(tmp_path: Path) -> Frame:
    """`good` beats `bad` by far; `close` is `good` but for a hair; `other` was scored on other cases."""
    base = np.random.default_rng(0).uniform(0.7, 0.9, len(CASES))
    wobble = np.random.default_rng(2).normal(0, 0.004, len(CASES))
    write_run(tmp_path, "good", scores=dice_rows(base))
    write_run(tmp_path, "close", scores=dice_rows(base + wobble - wobble.mean() - 0.001))
    write_run(tmp_path, "bad", scores=dice_rows(base - 0.1 + 10 * wobble))
    write_run(tmp_path, "other", scores=dice_rows(base[1:], CASES[1:]))
    return read_frame(tmp_path)


def column(table: Table, key: str) -> dict[str, object]:
    return {row["method"]: row.get(key) for row in table.rows}


def built(module: object, frame: Frame) -> Table:
    return module.build(frame)  # type: ignore[attr-defined]


def test_ranking_orders_and_judges(frame: Frame) -> None:
    table = built(ranking, frame)
    assert [row["method"] for row in table.rows] == ["good", "close", "bad"]
    assert column(table, "verdict") == {"good": "first", "close": "within 0.01", "bad": "worse"}
    bad = table.rows[2]
    assert bad["rank_interval"] == (3.0, 3.0)
    assert bad["difference"] == pytest.approx(bad["Dice"] - table.rows[0]["Dice"])
    low, high = bad["difference_interval"]
    assert low < bad["difference"] < high < 0
    assert any("other on phantom/polyp was scored on other cases" in note for note in table.notes)


def test_p_is_holm_over_all_pairs(frame: Frame) -> None:
    (contest,) = contests(frame)
    runs = {m: dict(zip(contest.cases.cases, contest.cases.row(m), strict=True)) for m in contest.methods}
    plain = [compare(case_table(runs), a, b).p for a, b in contest.p]
    assert len(plain) == 3
    assert list(contest.p.values()) == pytest.approx(holm(plain))


def test_a_wide_difference_is_not_shown(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    write_run(tmp_path, "a", scores=dice_rows(rng.uniform(0.2, 0.9, len(CASES))))
    write_run(tmp_path, "b", scores=dice_rows(rng.uniform(0.2, 0.9, len(CASES))))
    assert sorted(column(built(ranking, read_frame(tmp_path)), "verdict").values()) == ["first", "not shown"]


def test_a_method_that_wins_wherever_both_are_defined_is_not_called_worse(tmp_path: Path) -> None:
    first = np.random.default_rng(0).uniform(0.7, 0.9, len(CASES))
    second = first + 0.02
    first[:20], second[:20] = np.nan, 0.0  # nothing to find, and only the second finds something
    for name, values in (("careful", first), ("eager", second)):
        write_run(tmp_path, name, scores=dice_rows(values))
    row = built(ranking, read_frame(tmp_path)).rows[1]
    assert (row["method"], row["verdict"]) == ("eager", "better where both are defined")
    assert row["difference"] > 0


def test_one_method_is_not_ranked(tmp_path: Path) -> None:
    write_run(tmp_path, "a", scores=dice_rows(np.full(len(CASES), 0.5)))
    assert ranking.build(read_frame(tmp_path)) is None
    assert variance.build(read_frame(tmp_path)) is not None  # two draws


def test_other_data_is_another_contest(tmp_path: Path) -> None:
    for method, shift in (("a", 0.0), ("b", 0.1)):
        values = np.linspace(0.5, 0.8, len(CASES)) + shift
        write_run(tmp_path, method, scores=dice_rows(values))
        write_run(tmp_path, method, dataset="phantom/organs", scores=dice_rows(values))
    write_run(tmp_path, "c", scores=dice_rows(np.full(len(CASES), 0.5)), data={"data": "ff" * 32, "split": "5b" * 32})
    table = built(ranking, read_frame(tmp_path))
    assert [row["method"] for row in table.rows] == ["b", "a"] * 3  # organs, polyp, and over both; c is alone
    assert [row["dataset"] for row in table.rows[4:]] == [ranking.ACROSS] * 2
    assert table.rows[4]["verdict"] == "mean rank 1.00"


def test_variance_finds_its_parts(tmp_path: Path) -> None:
    base = np.random.default_rng(0).normal(0.6, 0.08, len(CASES))
    for seed, shift in enumerate((-0.05, 0.0, 0.05)):
        write_run(tmp_path, "a", seed=seed, scores=dice_rows(base + shift, noise=0.02, draws=20))
    write_run(tmp_path, "fixed", scores=dice_rows(base, draws=3))
    table = built(variance, read_frame(tmp_path))
    a, fixed = table.rows
    assert a["sd_case"] == pytest.approx(base.std(ddof=1), rel=0.05)
    assert a["sd_seed"] == pytest.approx(0.05, rel=1e-6)
    assert a["sd_draw"] == pytest.approx(0.02, rel=0.05)
    assert (a["seeds"], a["draws"], a["cases"]) == (3, 20, len(CASES))
    assert a["condition"] == "over 3 training runs"
    assert fixed["sd_draw"] == 0.0
    assert fixed["condition"] == "conditional on one training run"
    assert a["Dice_interval"][1] - a["Dice_interval"][0] > fixed["Dice_interval"][1] - fixed["Dice_interval"][0]


def test_tables_come_in_their_order_and_claims_only_on_the_page(frame: Frame, tmp_path: Path) -> None:
    names = [table.name for table in build_tables(frame)]
    assert names == sorted(names, key=ORDER.index)
    assert {"ranking", "claims"} <= set(names)
    text = render_terminal(tmp_path)
    assert "Ranking" in text
    assert "Claims" not in text
    page = build_report(tmp_path).index.read_text()
    assert "first in" in page
    assert "better than bad" in page
    assert "Would the published gains hold" in page
