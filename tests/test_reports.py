"""Report files and page: written whole, self-contained, and none of it with torch."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reports.build import ReportResult, build_report
from reports.files import write_atomic
from reports.frame import read_frame
from reports.plugin import pytest_terminal_summary
from reports.tables import build_tables
from tests.report_fixtures import SNAPSHOT, dice_rows, made_up_scores, write_picture, write_run

ROOT = Path(__file__).resolve().parents[1]
NAN, INF = math.nan, math.inf


# --- without torch -----------------------------------------------------------------------------------


# scipy looks into sys.modules["torch"] and breaks on a None there, so the import is refused instead.
WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is poisoned")

sys.meta_path.insert(0, NoTorch())
import importlib, pathlib, pkgutil, reports
names = [module.name for module in pkgutil.walk_packages(reports.__path__, "reports.")]
assert len(names) > 15, names
for name in names:
    importlib.import_module(name)
from reports.build import build_report
result = build_report(pathlib.Path(sys.argv[1]))
assert result.warnings == [], result.warnings
assert not [name for name in sys.modules if name.split(".")[0] == "torch"]
try:
    import torch
except ImportError as error:
    print(error)
"""


def test_every_module_and_a_whole_report_without_torch(tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    folder = write_run(runs_dir, scores=made_up_scores(0.8, n=20), run_scores={"latency_ms_p50": 3.0})
    write_picture(folder, 0, "case-000", 0.5)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(runs_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "torch is poisoned"), done.stderr
    assert list((runs_dir / "report" / "pictures").glob("*.webp"))


# --- report files and page ---------------------------------------------------------------------------


def test_the_example_is_as_its_snapshot(report: ReportResult) -> None:
    written = [path.read_text(encoding="utf-8") for path in report.tables if path.suffix == ".md"]
    assert "\n".join(written).splitlines() == SNAPSHOT.read_text(encoding="utf-8").splitlines()


def test_report_writes_tables_figures_and_page(report: ReportResult) -> None:
    names = {path.name for path in report.index.parent.iterdir()}
    wanted = (
        "table1",
        "table2",
        "labels",
        "ranking",
        "table4",
        "table5",
        "variance",
        "table6",
        "claims",
        "later",
        "figure3",
    )
    tables = {f"{name}.{kind}" for name in (*wanted, "later", "figure3") for kind in ("md", "csv", "tex")}
    drawn = ("accuracy", "cost", "disagreement", "paired", "ranking", "worst")
    figures = {f"figure_{name}.{kind}" for name in drawn for kind in ("svg", "png")}
    figures |= {"figure3.svg", "figure3.png"}
    assert names == tables | figures | {"index.html", "pictures", "methods.md", "summary.pdf", "report.json"}
    assert {path.name for path in report.tables} == tables
    assert report.warnings == []


def test_same_runs_give_the_same_files(tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    write_picture(write_run(runs_dir, scores=dice_rows({"a": 0.4, "b": 0.5})), 0, "a", 0.4)
    first = build_report(runs_dir, tmp_path / "one").index.parent
    second = build_report(runs_dir, tmp_path / "two").index.parent
    for path in (path for path in first.rglob("*") if path.is_file()):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path


# --- writing and pytest ------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.md"
    write_atomic(path, "old")

    def no_space(handle: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def summary_lines(**facts: Any) -> list[str]:
    lines: list[str] = []
    reporter: Any = SimpleNamespace(section=lines.append, write_line=lines.append)
    pytest_terminal_summary(reporter, 0, SimpleNamespace(**facts))  # type: ignore[arg-type]
    return lines


def test_plugin_prints_the_runs_just_made_only(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "mine", scores=dice_rows({"a": 0.5}))
    write_run(tmp_path, "somebody", scores=dice_rows({"a": 0.9}))
    text = "\n".join(summary_lines(_sdseg_runs=[folder], _sdseg_runs_dir=tmp_path))
    assert "mine" in text
    assert "somebody" not in text
    assert str(tmp_path / "report" / "index.html") in text


def test_plugin_is_silent_without_runs() -> None:
    assert summary_lines() == []
    assert summary_lines(_sdseg_runs=[]) == []


def test_every_module_with_build_is_a_table(tmp_path: Path) -> None:
    assert [table.name for table in build_tables(read_frame(tmp_path))] == ["table1", "table2", "table4", "table5"]
