"""Ranking, numbers as text, and the published ledger."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path
from typing import Any

import pytest

from reports.build import render_terminal
from reports.frame import read_frame
from reports.published.ledger import LEDGER, read_ledger
from reports.table import Column, Table, number
from reports.tables import accuracy
from reports.writers import escape_latex, to_csv, to_latex, to_markdown, to_text
from tests.report_fixtures import dice_rows, write_run

ROOT = Path(__file__).resolve().parents[1]
NAN, INF = math.nan, math.inf


# --- ranking and text --------------------------------------------------------------------------------


def ranked(values: list[float | None], better: Any = "higher", groups: str = "") -> set[int]:
    names = groups or "g" * len(values)
    rows = [{"v": value, "comparison": group} for value, group in zip(values, names, strict=True)]
    return {index for index, _ in Table("t", "T", "", [Column("v", "V", better=better)], rows).best()}


@pytest.mark.parametrize(
    ("values", "better", "groups", "best"),
    [
        ([0.9001, 0.9002, 0.1], "higher", "", {1}),  # equal once rounded, not before
        ([0.9, 0.9, 0.1], "higher", "", {0, 1}),
        ([3.0, 1.0, 2.0], "lower", "", {1}),
        ([3.0, 1.0, 2.0], "none", "", set()),
        ([0.5, 0.5], "higher", "", set()),
        ([0.5, None, NAN], "higher", "", set()),
        ([0.5, 0.6, 0.9, 0.8], "higher", "aabb", {1, 2}),
    ],
)
def test_best_values(values: list[float | None], better: str, groups: str, best: set[int]) -> None:
    assert ranked(values, better, groups) == best


def test_published_rows_are_never_best() -> None:
    rows = [{"v": 0.5}, {"v": 0.6}, {"v": 0.9, "published": True}]
    assert Table("t", "T", "", [Column("v", "V", better="higher")], rows).best() == {(1, "v")}


def test_other_protocol_and_other_split_are_not_ranked_together(tmp_path: Path) -> None:
    write_run(tmp_path, "a", scores=dice_rows({"x": 0.5}))
    write_run(tmp_path, "b", scores=dice_rows({"x": 0.6}), protocol="sdseg")
    write_run(tmp_path, "c", scores=dice_rows({"x": 0.7}), data={"data": "d", "split": "other"})
    assert accuracy.build(read_frame(tmp_path)).best() == set()


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0.12345, 3, "0.123"), (0.0002, 3, "0.0002"), (0.0, 3, "0.000"), (NAN, 3, "\u2013"), (12345.6, 0, "12,346")],
)
def test_numbers_as_text(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


def odd_table() -> Table:
    columns = [Column("dataset", "Data_set"), Column("v", "Dice", better="higher"), Column("v_interval", "95 %")]
    rows = [
        {"dataset": r"a|b_c & 50% \x{}~^#$", "v": 1 / 3, "v_interval": (0.1, 0.7)},
        {"dataset": "[first]", "v": 0.25, "v_interval": None},
    ]
    return Table("odd", "Odd_title", "A <caption>", columns, rows, ["note | with & signs"])


def test_csv_keeps_every_digit_and_splits_intervals() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(odd_table()))))
    assert float(rows[0]["v"]) == 1 / 3
    assert (rows[0]["v_interval_low"], rows[1]["v_interval_low"]) == ("0.1", "")
    assert rows[0]["dataset"] == r"a|b_c & 50% \x{}~^#$"


def test_markdown_keeps_its_columns() -> None:
    lines = [line for line in to_markdown(odd_table()).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}
    assert "**0.333**" in lines[2]


def test_latex_is_escaped_booktabs() -> None:
    text = to_latex(odd_table())
    assert r"a|b\_c \& 50\% \textbackslash{}x\{\}\textasciitilde{}\textasciicircum{}\#\$" in text
    assert r"\textbf{0.333}" in text
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    assert escape_latex("[x]").startswith("{}[")
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    assert {line.replace(r"\&", "").count("&") for line in body.splitlines() if line.endswith(r"\\")} == {2}
    assert text.replace(r"\{", "").replace(r"\}", "").count("{") == text.replace(r"\{", "").replace(r"\}", "").count(
        "}"
    )


def test_terminal_tables_fit_and_mark_the_best(example: Path) -> None:
    runs = [path for path in example.glob("*/*/seed*") if "ablation" not in str(path)]  # whose names are too long
    text = render_terminal(example, runs)
    longest = max(len(line) for line in text.splitlines())
    assert longest <= 105
    assert "published" not in text
    assert re.search(r"sdseg_z0 +0\.\d{3}\*", text)
    assert "no rows" in to_text(Table("t", "T", "", [Column("a", "A")]))


# --- published numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "dataset", "method", "metric", "value"),
    [
        ("2", "sts3d", "nnU-Net", "Dice", 88.9),
        ("3", "cvc_clinicdb", "SDSeg", "Dice", 95.8),
        ("3", "refuge2", "MedSegDiff-V2", "IoU", 79.6),
        ("4", "btcv", "SDSeg", "samples_per_s", 8.36),
        ("5", "btcv", "SDSeg", "LPIPS/score", 0.0143),
        ("5", "btcv", "Diff-U-Net", "PSNR/seg", 23.7158),
        ("6", "refuge2", "SDSeg ablation 4 (full)", "IoU", 81.68),
    ],
)
def test_ledger_holds_what_the_paper_prints(table: str, dataset: str, method: str, metric: str, value: float) -> None:
    key = (table, dataset, method, metric)
    listed = [e.value for e in read_ledger() if (e.table, e.dataset, e.method, e.metric) == key]
    assert listed == [value]


def test_ledger_is_complete_and_gives_reasons() -> None:
    ledger = read_ledger()
    counts = {table: sum(entry.table == table for entry in ledger) for table in "23456"}
    assert counts == {"2": 19, "3": 24, "4": 40, "5": 24, "6": 16}
    assert all(entry.why for entry in ledger)
    assert len({(e.table, e.dataset, e.method, e.metric) for e in ledger}) == len(ledger)


def test_comparable_only_under_its_protocol(tmp_path: Path) -> None:
    lines = LEDGER.read_text().splitlines()
    path = tmp_path / "ledger.csv"
    path.write_text("\n".join([lines[0], lines[1].replace(",no,", ",yes,")]))
    entry = read_ledger(path)[0]
    assert (entry.comparable_with("sdseg"), entry.comparable_with("strict")) == (True, False)
    path.write_text("\n".join([lines[0], lines[1].replace(",no,", ",perhaps,")]))
    with pytest.raises(ValueError, match="line 2"):
        read_ledger(path)
