"""Report files and page: written whole, self-contained, and none of it with torch."""

from __future__ import annotations

import csv
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reports.build import ReportResult, build_report
from reports.files import write_atomic
from reports.frame import read_frame
from reports.plugin import pytest_terminal_summary
from reports.site.pictures import _contour, _heat, read_galleries
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
    assert "data:image/webp" in (runs_dir / "report" / "index.html").read_text()


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
    assert names == tables | figures | {"index.html"}
    assert {path.name for path in report.tables} == tables
    assert report.warnings == []


def test_page_stands_alone_and_describes_its_pictures(report: ReportResult) -> None:
    page = report.index.read_text()
    assert "<script" not in page
    assert all(value.startswith("data:") for value in re.findall(r'src="([^"]*)"', page))
    targets = re.findall(r'href="([^"]*)"', page)
    assert all(t.startswith("#") or (report.index.parent / t).is_file() for t in targets)
    assert all(f'id="{target[1:]}"' in page for target in targets if target.startswith("#"))
    images = re.findall(r"<img [^>]*>", page)
    # six galleries of two cases in four panels, and seven figures
    assert len(images) == 6 * 2 * 4 + 7
    assert all(re.search(r'alt="[^"]{8,}"', image) for image in images)
    assert "published, not comparable" in page
    assert "phantom/ablation, no_latent, no latent loss: 0." in page  # what Figure 3 tells those who do not see it
    assert page.index('id="figure3"') > page.index('id="table6"')


def test_page_shows_the_numbers_of_the_table(example: Path, report: ReportResult) -> None:
    page = report.index.read_text()
    with (report.index.parent / "table2.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert f"{float(row['Dice']):.3f}" in page
    for run in read_frame(example).runs:
        assert run.record.hash in page


def test_same_runs_give_the_same_files(tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    write_run(runs_dir, scores=dice_rows({"a": 0.4, "b": 0.5}))
    first = build_report(runs_dir, tmp_path / "one").index.parent
    second = build_report(runs_dir, tmp_path / "two").index.parent
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_nothing_from_a_run_becomes_markup(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    folder = write_run(tmp_path, "m", scores=dice_rows({"a": 0.5}), notes=[attack], profile=attack, labels=[attack])
    write_picture(folder, 0, "case-a", 0.5)
    page = build_report(tmp_path).index.read_text()
    assert attack not in page
    assert page.count("&lt;script&gt;") >= 3


def test_smoke_and_modified_trees_are_pointed_out(tmp_path: Path) -> None:
    write_run(tmp_path, scores=dice_rows({"a": 0.5}), environment={"git": {"commit": "c" * 40, "dirty": True}})
    page = build_report(tmp_path).index.read_text()
    assert "modified working tree" in page
    assert "not how good a method is" in page
    assert "cccccccccc, modified" in page


def test_pictures_come_worst_first_and_broken_ones_are_warnings(tmp_path: Path) -> None:
    folder = write_run(tmp_path, scores=dice_rows({"a": 0.5}))
    for rank, dice in enumerate((0.2, 0.7, NAN)):
        write_picture(folder, rank, f"case-{rank}", dice)
    (folder / "gallery" / "09-broken.npz").write_bytes(b"no zip")
    np.savez(folder / "gallery" / "10-other.npz", image=np.zeros((4, 4, 3), np.uint8))
    warnings: list[str] = []
    (gallery,) = read_galleries(read_frame(tmp_path), warnings)
    assert [picture.case for picture in gallery.pictures] == ["case-0", "case-1", "case-2"]
    assert ["09-broken" in warnings[0], "10-other" in warnings[1], len(warnings)] == [True, True, 2]
    assert "Dice undefined" in gallery.pictures[2].panels[2].alt


def test_contour_and_heat_by_hand() -> None:
    mask = np.zeros((5, 5), bool)
    mask[1:4, 1:4] = True
    assert _contour(mask, 1).sum() == 8  # all but the middle
    heat = np.zeros((2, 2))
    heat[0, 0] = 1.0
    picture = _heat(np.full((2, 2, 3), 100, np.uint8), heat)
    assert (picture[1, 1] == 55).all()  # agreement: the grey image, dimmed
    assert picture[0, 0, 0] > 200  # half of the draws: the bright end of the scale


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
