"""The ledgers of printed numbers and what the lint finds in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli import main
from reports.frame import read_frame
from reports.published import lint, read_ledger, read_ledgers
from reports.table import Table
from reports.tables import build_tables
from tests.report_fixtures import made_up_scores, rows_of, write_ablation, write_run

HEADER = "value,unit,dataset,method,metric,source,split\n"


def ledger(folder: Path, *lines: str) -> Path:
    path = folder / "mine.csv"
    path.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return path


def kinds(path: Path) -> list[str]:
    return [finding.kind for finding in lint(read_ledger(path))]


def test_the_lint_finds_what_is_known_to_be_wrong() -> None:
    known = {(f.kind, f.entries[0].dataset, f.entries[0].method) for f in lint(read_ledgers())}
    assert {
        ("impossible", "btcv", "SDSeg ablation 4 (full)"),
        ("impossible", "refuge2", "LEAF x0"),
        ("impossible", "refuge2", "SwinBTS"),
        ("contradicted", "refuge2", "SDSeg"),
        ("derived", "cvc_clinicdb", "Li-SegPNet"),
    } <= known
    assert sum(kind == "impossible" for kind, _, _ in known) == 3
    assert {("derived", e.dataset, e.method) for e in read_ledgers() if e.source == "DUCK-Net"} <= known


@pytest.mark.parametrize(
    ("dice", "iou", "found"),
    [
        ("92.76", "85.49", ["impossible"]),
        ("92.8", "86.5", ["derived"]),  # 86.57 at 92.80, 86.48 at 92.75
        ("92.8", "86.4", ["impossible"]),  # at most 86.45, at least 86.48
        ("92.8", "87.0", []),
        ("80", "67", ["derived"]),  # 66.67, and from 65.97 to 67.36 as 80 may be 79.5 or 80.5
    ],
)
def test_rounding_is_allowed_for(tmp_path: Path, dice: str, iou: str, found: list[str]) -> None:
    assert kinds(ledger(tmp_path, f"{dice},%,btcv,A,Dice,S,x", f"{iou},%,btcv,A,IoU,S,x")) == found


def test_a_pair_is_one_whatever_is_said_of_its_halves(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("value,dataset,method,metric,split,why\n.9276,btcv,A,Dice,x,\n.8549,btcv,A,IoU,x,read off a plot\n")
    assert kinds(path) == ["impossible"]
    write_run(tmp_path, "sdseg", scores=made_up_scores(0.9, 16), dataset="btcv")
    rows = [row for row in table(tmp_path, "later", [path]).rows if row["source"] == "mine"]
    assert [(row["Dice"], row["IoU"]) for row in rows] == [(0.9276, 0.8549)]


def test_only_one_source_on_one_split_contradicts_itself(tmp_path: Path) -> None:
    path = ledger(tmp_path, "80.1,%,btcv,A,Dice,S,x", "85.4,%,btcv,A,Dice,T,x", "85.4,%,btcv,A,Dice,S,y")
    assert kinds(path) == []
    assert kinds(ledger(tmp_path, "89.4,%,btcv,A,Dice,S,x", "89.36,%,btcv,A,Dice,S,x")) == []  # the same, rounded
    assert kinds(ledger(tmp_path, "81.8,%,btcv,A,IoU,S,x", "81.68,%,btcv,A,IoU,S,x")) == ["contradicted"]


def table(folder: Path, name: str, published: list[Path] | None = None) -> Table:
    return next(t for t in build_tables(read_frame(folder, published=published or [])) if t.name == name)


def test_marks_stand_in_the_tables(tmp_path: Path) -> None:
    write_run(tmp_path, "sdseg", scores=made_up_scores(0.9, 16), dataset="btcv")
    path = ledger(tmp_path, "92.76,%,btcv,Mine,Dice,Me,x", "85.49,%,btcv,Mine,IoU,Me,x")
    later = table(tmp_path, "later", [path])
    (mine,) = [row for row in later.rows if row["source"] == "Me"]
    assert (mine["mark"], mine["Dice"], mine["IoU"]) == ("impossible", pytest.approx(0.9276), pytest.approx(0.8549))
    assert {row["dataset"] for row in later.rows} == {"btcv"}
    assert all(not row["mark"] for row in later.rows if row is not mine)


def test_the_seed_paper_s_own_pair_is_marked(tmp_path: Path) -> None:
    write_ablation(tmp_path, [0.3, 0.6, 0.8, 0.85], dataset="btcv")
    ablation = table(tmp_path, "table6")
    (full,) = [row for row in rows_of(ablation, published=True) if "ablation 4" in row["method"]]
    assert full["method"].endswith("[published, not comparable, impossible]")
    assert any("IoU is at least 86.50 there" in note for note in ablation.notes)


def test_a_broken_ledger_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").mkdir()
    path = ledger(tmp_path, "80.1,%,btcv,A,Dice,S,x", "much,%,btcv,A,IoU,S,x")
    assert main(["report", "--runs", str(tmp_path / "runs"), "--published", str(path)]) == 2
    assert f"error: {path}, line 3: not a ledger entry" in capsys.readouterr().err
    for row, said in (
        ("859,%,btcv,A,IoU,S,x", "line 2: IoU 859 % is not within 0 and 1"),
        ("85.9,,btcv,A,IoU,S,x", "line 2: IoU 85.9 is not within 0 and 1; a percentage has the unit %"),
        ("85.9,%,btcv,A,Iou,S,x", "A: metric 'Iou' is written 'IoU'"),
    ):
        assert main(["report", "--runs", str(tmp_path / "runs"), "--published", str(ledger(tmp_path, row))]) == 2
        assert said in capsys.readouterr().err
    path.write_text("number,dataset\n1,btcv\n")
    assert main(["report", "--runs", str(tmp_path / "runs"), "--published", str(path)]) == 2
    assert "no column value" in capsys.readouterr().err
    assert main(["report", "--runs", str(tmp_path / "runs"), "--published", str(tmp_path / "no.csv")]) == 2
    assert "no.csv: not a ledger that can be read" in capsys.readouterr().err
