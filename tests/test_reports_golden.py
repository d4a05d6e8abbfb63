"""Tables that the snapshot of the example has no rows for, and LaTeX, against a committed file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from reports.frame import read_frame
from reports.tables import ORDER, build_tables
from reports.writers import to_latex, to_markdown
from tests.report_fixtures import SNAPSHOT, made_up_scores, write_run
from tests.test_reports_conventions import gap
from tests.test_reports_noise import SHIFTS, write

GOLDEN = SNAPSHOT.with_name("report_more.md")
FURTHER = ("errors", "conventions", "noise")
IN_LATEX = ("table2", "ranking")


def write_rest(runs_dir: Path) -> None:
    """Methods with errors and conventions, and the controls of noise."""
    for number, method in enumerate(("unet", "sdseg")):
        scores = made_up_scores(0.8 + number / 20, n=16, draws=2, seed=number)
        far = scores[scores["metric"] == "Dice"].assign(metric="HD95")
        far = far.assign(value=(20 * (1 - far["value"])).round(1))
        missed = far.assign(metric="missed", value=np.where(far["value"] > 6, 1.0, 0.0))
        folder = write_run(runs_dir, method, scores=pd.concat([scores, far, missed]), draws=2)
        gap(number / 100).to_parquet(folder / "conventions.parquet")
    for control, shift in SHIFTS.items():
        write(runs_dir, control, shift)


def rendered(runs_dir: Path) -> str:
    tables = {table.name: table for table in build_tables(read_frame(runs_dir))}
    parts = [to_markdown(tables[name]) for name in FURTHER] + [to_latex(tables[name]) for name in IN_LATEX]
    return "\n".join(parts)


def test_the_rest_is_as_committed(tmp_path: Path) -> None:
    write_rest(tmp_path)
    assert rendered(tmp_path).splitlines() == GOLDEN.read_text(encoding="utf-8").splitlines()


def test_every_table_is_in_one_of_the_two_files(tmp_path: Path) -> None:
    write_rest(tmp_path)
    tables = build_tables(read_frame(tmp_path))
    both = SNAPSHOT.read_text(encoding="utf-8") + GOLDEN.read_text(encoding="utf-8")
    titles = {table.name: table.title for table in tables}
    assert set(FURTHER) | set(IN_LATEX) <= titles.keys()
    assert [name for name in ORDER if name in titles and f"## {titles[name]}" not in both] == []


if __name__ == "__main__":  # python -m tests.test_reports_golden, after a change that was meant; read the difference
    with tempfile.TemporaryDirectory() as folder:
        write_rest(Path(folder))
        GOLDEN.write_text(rendered(Path(folder)), encoding="utf-8")
