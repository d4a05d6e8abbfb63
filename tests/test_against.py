"""`sdseg report --against OTHER`: cells that differ, rows that came or went, verdicts that are others now."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.cli import main
from reports.against import against, read_tables
from tests.report_fixtures import dice_rows, write_run


def values(shift: float) -> dict[str, float]:
    return {f"case-{i:02d}": 0.5 + 0.4 * i / 40 + shift * (1 + i % 3) for i in range(40)}


def write_methods(runs: Path, **shifts: float) -> None:
    for name, shift in shifts.items():
        write_run(runs, name, scores=dice_rows(values(shift)), draws=1)


def test_what_changed_is_told_though_the_older_runs_are_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, old = tmp_path / "runs", tmp_path / "old"
    write_methods(runs, alpha=0.02, beta=0.0, gamma=-0.02)
    assert main(["report", "--runs", str(runs), "--out", str(old)]) == 0
    shutil.rmtree(runs)
    write_methods(runs, alpha=0.02, beta=0.03, delta=-0.02)
    capsys.readouterr()
    assert main(["report", "--runs", str(runs), "--against", str(old)]) == 0
    told = capsys.readouterr().out
    changes = against(read_tables(runs / "report"), read_tables(old), "old").changes
    assert ("ranking", "phantom/polyp, beta", "verdict", "worse", "first") in changes
    assert changes[0].column == "verdict"
    mean = next(c for c in changes if (c.table, c.row, c.column) == ("table2", "phantom/polyp, beta, strict", "Dice"))
    assert mean.difference == pytest.approx(0.03 * sum(1 + i % 3 for i in range(40)) / 40)
    rows = {(c.row, c.old, c.new) for c in changes if c.table == "table2" and not c.column}
    assert rows == {("phantom/polyp, gamma, strict", "row", ""), ("phantom/polyp, delta, strict", "", "new row")}
    assert not [c for c in changes if c.row == "phantom/polyp, alpha, strict" and c.table == "table2"]
    assert "2 verdicts are others" in told
    written = (runs / "report" / "against.md").read_text()
    assert "| ranking | phantom/polyp, beta | verdict | worse | first |" in written


def test_the_same_runs_have_no_changes_and_a_report_may_replace_the_one_it_is_set_against(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    write_methods(runs, alpha=0.02, beta=0.0)
    assert main(["report", "--runs", str(runs)]) == 0
    assert main(["report", "--runs", str(runs), "--against", str(runs / "report")]) == 0
    assert "0 cells differ, 0 rows came, 0 went" in capsys.readouterr().out


def test_what_is_no_report_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_methods(tmp_path / "runs", alpha=0.0)
    assert main(["report", "--runs", str(tmp_path / "runs"), "--against", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'nothing'}: no table.csv inside")
    assert not (tmp_path / "runs" / "report").exists()
