"""What leaves a report for a paper: LaTeX that compiles, a page as PDF, a paragraph of methods."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reports.build import build_report
from reports.frame import read_frame
from reports.methods import methods_text
from reports.table import Column, Table
from reports.writers import to_latex
from tests.report_fixtures import dice_rows, made_up_scores, write_run, write_whole_example

ODD = (
    r"a_b & 50 % $x$ #1 {y} ~z ^w \n <t> | "
    + "".join(map(chr, (0xB1, 0xB2, 0xB5, 0xD7, 0xE9, 0x3B1, 0x3A9)))
    + "".join(map(chr, (0x2013, 0x2018, 0x201D, 0x2026, 0x2191, 0x2212, 0x2265, 0x221E, 0x2248, 0x4E2D, 0x1F600)))
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("export") / "runs"
    write_whole_example(runs)
    return build_report(runs).index.parent


def compiled(folder: Path, tables: list[Path]) -> None:
    """Compile tables in one document; the test skips where there is no TeX."""
    engine = next((name for name in ("pdflatex", "tectonic") if shutil.which(name)), None)
    if engine is None:
        pytest.skip("neither pdflatex nor tectonic is installed, so LaTeX is not compiled")
    inputs = "\n".join(rf"\input{{{path.as_posix()}}}\clearpage" for path in tables)
    packages = r"\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}\usepackage{textcomp,booktabs,graphicx}"
    main = folder / "main.tex"
    main.write_text(rf"\documentclass{{article}}{packages}\begin{{document}}{inputs}\end{{document}}", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error"] if engine == "pdflatex" else ["tectonic"]
    done = subprocess.run([*command, main.name], cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "main.pdf").read_bytes().startswith(b"%PDF")


def test_every_table_compiles(report: Path, tmp_path: Path) -> None:
    tables = sorted(report.glob("*.tex"))
    assert len(tables) > 8
    compiled(tmp_path, tables)


@pytest.mark.parametrize("place", ["cells", "notes"])
def test_odd_characters_compile(place: str, tmp_path: Path) -> None:
    rows = [{"method": ODD if place == "cells" else "plain", "value": 0.5}, {"method": "[begins with a bracket]"}]
    columns = [Column("method", ODD if place == "cells" else "Method"), Column("value", "Value", unit="%")]
    table = Table("odd", "Odd", ODD if place == "notes" else "", columns, rows, [ODD] if place == "notes" else [])
    (tmp_path / "odd.tex").write_text(to_latex(table), encoding="utf-8")
    compiled(tmp_path, [tmp_path / "odd.tex"])


def test_the_summary_is_one_page_with_the_numbers_of_the_tables(report: Path) -> None:
    content = (report / "summary.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", content)) == 1
    assert b"CreationDate" not in content


def test_methods_say_what_was_done(report: Path) -> None:
    text = " ".join((report / "methods.md").read_text(encoding="utf-8").split())
    assert "On btcv (12 test cases) we evaluated" in text
    assert "1 to 2 seeds (0, 1)" in text
    assert "bias-corrected and accelerated bootstrap (9,999 resamples of the cases)" in text
    assert "after Holm over all pairs of a data set (" in text
    assert "hierarchical bootstrap" in text
    assert "medsegdiff_v2" in text.partition("incomplete specification: ")[2].partition(".")[0]
    assert "Example CPU, threads: 1" in text
    assert "torch 2.13.0" in text


def test_methods_claim_nothing_that_was_not_done(tmp_path: Path) -> None:
    few = dice_rows({f"case-{i}": 0.5 + i / 20 for i in range(4)})
    write_run(tmp_path, scores=few, draws=1)
    text = " ".join(methods_text(read_frame(tmp_path)).split())
    assert "No interval is given below 10 independent units" in text
    assert "all results are conditional on one training run" in text
    for word in ("Holm", "bootstrap", "sign-flip", "hierarchical", "undefined"):
        assert word not in text


def test_methods_count_groups_and_undefined_values(tmp_path: Path) -> None:
    scores = made_up_scores(0.8, n=40, draws=2)
    scores["group"] = scores["case"].str[-3:].astype(int).floordiv(2).astype(str)
    write_run(tmp_path, scores=scores, draws=2)
    text = " ".join(methods_text(read_frame(tmp_path)).split())
    assert "40 test cases in 20 independent groups" in text
    assert "of the groups of cases, which stay together" in text
    assert "2 values of Dice were undefined and left out, with them 1 whole cases" in text
    assert "with 20 of them they are marked unreliable" in text
