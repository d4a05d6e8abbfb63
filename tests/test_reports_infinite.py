"""Infinite values have one rule: shown as infinite, ranked last, without an interval, and no reason to stop."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import cli
from bench.record import read_record
from bench.scores import RunScores
from bench.scoring.card import card_facts
from bench.stats import case_table, sign_flip_p
from reports.build import build_report
from reports.frame import read_frame
from reports.tables import build_tables
from tests.report_fixtures import made_up_scores, rows_of, write_run


def with_infinite(metric: str = "Dice") -> pd.DataFrame:
    scores = made_up_scores(0.86, n=24, draws=2)
    first = scores.index[scores["metric"] == metric][0]
    scores.loc[first, "value"] = np.inf
    return scores


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_it_is_shown_as_infinite_ranked_last_and_never_best(tmp_path: Path) -> None:
    write_run(tmp_path, "a", scores=with_infinite(), draws=2)
    for method, quality in (("b", 0.6), ("c", 0.7)):
        write_run(tmp_path, method, scores=made_up_scores(quality, n=24, draws=2), draws=2)
    tables = {table.name: table for table in build_tables(read_frame(tmp_path))}
    (row,) = rows_of(tables["table2"], method="a")
    assert (row["Dice"], row["Dice_interval"]) == (math.inf, None)
    assert "Dice_median" not in row
    assert math.isfinite(row["IoU"])
    best = {(tables["table2"].rows[index]["method"], key) for index, key in tables["table2"].best()}
    assert ("c", "Dice") in best
    assert ("a", "Dice") not in best
    assert [row["method"] for row in tables["ranking"].rows] == ["c", "b", "a"]
    last = tables["ranking"].rows[-1]
    assert (last["Dice"], last["verdict"]) == (math.inf, "infinite values")
    assert "difference_interval" not in last
    assert tables["ranking"].rows[1]["verdict"] == "worse"
    (row,) = rows_of(tables["variance"], method="a")  # its spread is not split
    assert row["Dice"] == math.inf
    assert "Dice_interval" not in row
    assert "∞" in build_report(tmp_path).index.read_text()
    for figure in ("figure_ranking", "figure_paired"):
        assert "nan" not in (tmp_path / "report" / f"{figure}.svg").read_text()


def test_the_card_says_infinite(tmp_path: Path) -> None:
    run = write_run(tmp_path, scores=with_infinite(), config={"method": {}, "metrics": ["Dice", "IoU"]})
    facts = card_facts(read_record(run / "record.json"), RunScores(with_infinite()))
    assert facts["scores"]["test Dice"] == "infinite"
    assert facts["scores"]["test IoU"].startswith("0.")


def test_compare_says_which_mean_is_infinite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_run(tmp_path, "a", scores=with_infinite(), draws=2)
    b = write_run(tmp_path, "b", scores=made_up_scores(0.8, n=24, draws=2), draws=2)
    assert cli.main(["compare", str(a), str(b), "--runs", str(tmp_path)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("lesion"))
    assert line.split()[1] == "infinite"
    assert float(line.split()[2]) < 1


def test_a_model_without_values_does_not_change_p_of_the_others() -> None:
    rng = np.random.default_rng(0)
    cases = [str(i) for i in range(40)]
    runs = {name: dict(zip(cases, rng.beta(8, 2, 40), strict=True)) for name in "bcd"}
    alone = sign_flip_p(case_table(runs))
    p_values = sign_flip_p(case_table({"a": dict.fromkeys(cases, np.nan), **runs}))
    assert {pair: p_values[pair] for pair in alone} == alone
    assert math.isnan(p_values["a", "b"])
