"""CSV files that a spreadsheet opens without running anything, and whose ids can be read back."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.datasets.splitting import read_groups
from bench.record import plain_text, spreadsheet_text
from bench.scoring.folder import score_folder
from reports.table import Column, Table
from reports.writers import to_csv

FORMULAS = ["=1+1", "+cmd|x", "-a1", "@sum", "\tx", "-"]
PLAIN = ["-1", "+2.5e3", "a=b", "case-1", "", "'=x", "-inf"]


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN])
def test_text_comes_back(text: str) -> None:
    written = spreadsheet_text(text)
    assert (written != text) == (text in FORMULAS)
    if text != "'=x":  # the one text that looks like a written formula
        assert plain_text(written) == text


def test_numbers_stay_numbers() -> None:
    assert [spreadsheet_text(x) for x in (-1, -2.5, None)] == [-1, -2.5, None]


def test_scores_of_a_case_named_like_a_formula(tmp_path: Path) -> None:
    for folder in ("p", "r"):
        for name in ("=1+1", "-3"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray((np.eye(12) * 255).astype(np.uint8)).save(tmp_path / folder / f"{name}.png")
    score_folder(tmp_path / "p", tmp_path / "r", tmp_path / "out")
    with (tmp_path / "out" / "scores.csv").open(encoding="utf-8") as file:
        assert {row["case"] for row in csv.DictReader(file)} == {"'=1+1", "-3"}
    (tmp_path / "groups.csv").write_text("case,group\n'=1+1,a\n-3,b\n")
    assert read_groups(["=1+1", "-3"], tmp_path / "groups.csv") == {"=1+1": "a", "-3": "b"}


def test_a_table_of_the_report() -> None:
    table = Table("t", "T", "", [Column("method", "Method"), Column("x", "X")], [{"method": "=cmd()", "x": -1.5}])
    assert list(csv.reader(io.StringIO(to_csv(table))))[1][:2] == ["'=cmd()", "-1.5"]
