"""Reports from run folders alone: means, counts, ranking, files, page, and none of it with torch."""

from __future__ import annotations

import csv
import io
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports.build import ReportResult, build_report, render_terminal
from reports.files import write_atomic
from reports.frame import COLUMNS, read_frame
from reports.plugin import pytest_terminal_summary
from reports.published import LEDGER, read_ledger
from reports.site.pictures import _contour, _heat, read_galleries
from reports.summary import reliability_notes, summarise
from reports.table import Column, Table, cell, number
from reports.tables import accuracy, build_tables, cost, datasets, stability
from reports.writers import escape_latex, to_csv, to_latex, to_markdown, to_text
from tests.report_fixtures import made_up_scores, score_rows, write_example, write_picture, write_run

ROOT = Path(__file__).resolve().parents[1]
NAN, INF = math.nan, math.inf


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs_dir = tmp_path_factory.mktemp("example") / "runs"
    write_example(runs_dir, pictures=2, cases=16)
    return runs_dir


@pytest.fixture(scope="module")
def tables(example: Path) -> dict[str, Table]:
    return {table.name: table for table in build_tables(read_frame(example))}


@pytest.fixture(scope="module")
def report(example: Path) -> ReportResult:
    return build_report(example)


def rows_of(table: Table, **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in table.rows if all(row.get(key) == value for key, value in wanted.items())]


def dice_rows(values: dict[str, float]) -> pd.DataFrame:
    return score_rows([(case, case, "lesion", 0, "Dice", value) for case, value in values.items()])


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


# --- frame -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [True, False])
def test_no_runs_still_render_with_fixed_columns(tmp_path: Path, make: bool) -> None:
    runs_dir = tmp_path / "runs"
    if make:
        runs_dir.mkdir()
    frame = read_frame(runs_dir)
    assert list(frame.scores) == COLUMNS
    result = build_report(runs_dir)
    assert "No runs" in result.index.read_text()
    assert len(result.tables) == 12
    assert bool(result.warnings) is not make


def test_foreign_and_broken_folders_are_one_warning_each(tmp_path: Path) -> None:
    good = write_run(tmp_path, scores=dice_rows({"a": 0.5}))
    (tmp_path / "notes").mkdir()
    (tmp_path / "phantom-polyp" / "unet" / "seed0-unfinished" / "model").mkdir(parents=True)
    bad_record = write_run(tmp_path, "bad_record")
    (bad_record / "record.json").write_text("{")
    bad_scores = write_run(tmp_path, "bad_scores")
    (bad_scores / "scores.parquet").write_text("no parquet")
    (tmp_path / "report").mkdir()
    frame = read_frame(tmp_path)
    assert [run.path for run in frame.runs] == [bad_scores, good]
    assert set(frame.scores["run"]) == {str(good)}
    for part in ("notes", "seed0-unfinished", str(bad_record), str(bad_scores)):
        assert sum(part in line for line in frame.warnings) == 1
    assert len(frame.warnings) == 4
    assert all("\n" not in line for line in frame.warnings)


def test_only_the_runs_asked_for(example: Path) -> None:
    chosen = sorted(example.glob("btcv/sdseg/seed*"))
    text = render_terminal(example, chosen)
    assert "btcv" in text
    assert "phantom" not in text


def test_settings_that_differ_name_the_rows(tmp_path: Path) -> None:
    for steps in (1, 10):
        for seed in (0, 1):
            config = {
                "method": {"name": "sdseg", "options": {"steps": steps}},
                "seed": seed,
                "runs_dir": f"{seed}",
            }
            write_run(tmp_path, seed=seed, scores=dice_rows({"a": steps / 20, "b": 0.5}), config=config)
    table = accuracy.build(read_frame(tmp_path))
    assert [(row["method"], row["seeds"]) for row in table.rows] == [
        ("sdseg (steps=1)", "0, 1"),
        ("sdseg (steps=10)", "0, 1"),
    ]
    assert table.rows[1]["Dice"] == pytest.approx(0.5)


def test_the_newer_of_two_equal_runs_counts(tmp_path: Path) -> None:
    old = write_run(tmp_path, scores=dice_rows({"a": 0.1}), notes=["old"])
    new = write_run(tmp_path, scores=dice_rows({"a": 0.9}), notes=["new"])
    os.utime(old / "record.json", (1, 1))
    frame = read_frame(tmp_path)
    assert [run.path for run in frame.runs] == [new]
    assert [old.name in line for line in frame.warnings] == [True]


def test_scoring_stamp_is_not_another_data_set(tmp_path: Path) -> None:
    for method in ("sdseg", "unet"):
        write_run(
            tmp_path,
            method,
            scores=dice_rows({"a": 0.5}),
            data={"data": "d", "split": "s", "scoring": method},
        )
    frame = read_frame(tmp_path)
    assert len({run.comparison for run in frame.runs}) == 1
    assert len(datasets.build(frame).rows) == 1


# --- numbers by hand ---------------------------------------------------------------------------------


def test_labels_then_draws_then_cases_by_hand(tmp_path: Path) -> None:
    # a: draw 0 (1.0, 0.5) -> 0.75; draw 1 (0.5, undefined) -> 0.5; case 0.625. b: 0.2. c: undefined.
    values = [("a", 0, "x", 1.0), ("a", 0, "y", 0.5), ("a", 1, "x", 0.5), ("a", 1, "y", NAN)]
    values += [("b", 0, "x", 0.2), ("b", 1, "x", 0.2), ("c", 0, "x", NAN), ("c", 1, "x", NAN)]
    write_run(tmp_path, scores=score_rows([(c, c, label, d, "Dice", v) for c, d, label, v in values]))
    row = accuracy.build(read_frame(tmp_path)).rows[0]
    assert row["Dice"] == pytest.approx((0.625 + 0.2) / 2)
    assert row["Dice_sd"] == pytest.approx(abs(0.625 - 0.2) / math.sqrt(2))
    assert (row["cases"], row["excluded"], row["undefined"]) == (2, 1, 3)
    assert row["Dice_interval"] is None


def test_seeds_are_averaged_within_cases_and_listed(tmp_path: Path) -> None:
    write_run(tmp_path, seed=0, scores=dice_rows({"a": 0.2, "b": 0.6}))
    write_run(tmp_path, seed=3, scores=dice_rows({"a": 0.4, "b": 0.8}))
    row = accuracy.build(read_frame(tmp_path)).rows[0]
    assert row["Dice"] == pytest.approx(0.5)
    assert row["Dice_sd"] == pytest.approx(0.4 / math.sqrt(2))
    assert (row["cases"], row["seeds"]) == (2, "0, 3")


def test_draws_are_never_pooled_as_cases() -> None:
    scores = made_up_scores(0.8, n=20, draws=5)
    summary = summarise(scores[scores["metric"] == "Dice"].assign(seed=0))
    assert (summary.cases, summary.units, summary.excluded, summary.undefined) == (19, 19, 1, 5)


@pytest.mark.parametrize(("n", "expected"), [(9, "no interval (n=9)"), (12, "CI unreliable (n=12)"), (30, None)])
def test_small_samples_say_so(n: int, expected: str | None) -> None:
    rng = np.random.default_rng(0)
    summary = summarise(dice_rows({f"c{i}": rng.uniform() for i in range(n)}).assign(seed=0))
    notes = reliability_notes([("m on d", summary)])
    assert (summary.interval is None) == (n < 10)
    assert [expected in note for note in notes] == [True] if expected else notes == []


def test_groups_not_cases_decide_on_reliability() -> None:
    rows = [(f"c{i}", f"p{i % 6}", "x", 0, "Dice", i / 40) for i in range(36)]
    summary = summarise(score_rows(rows).assign(seed=0))
    assert (summary.cases, summary.units, summary.interval) == (36, 6, None)
    assert "no interval (n=6 groups, 36 cases)" in reliability_notes([("m", summary)])[0]


def test_identical_draws_count_in_the_mean_psnr(tmp_path: Path) -> None:
    values = [("a", 30.0), ("b", INF), ("c", 20.0), ("d", NAN)]
    rows = [(case, case, "x", -1, "PSNR/seg", value) for case, value in values]
    rows += [(case, case, "x", -1, "PSNR/score", INF) for case, _ in values]
    write_run(tmp_path, scores=score_rows(rows))
    table = stability.build(read_frame(tmp_path))
    row = table.rows[0]
    assert row["PSNR/seg"] == pytest.approx(-10 * math.log10((0.001 + 0 + 0.01) / 3))
    assert row["PSNR/score"] == INF
    assert (row["identical"], row["undefined"], row["cases"]) == (5, 1, 4)
    assert any("PSNR Seg infinite" in note and "sdseg on phantom/polyp 1" in note for note in table.notes)
    assert cell(stability.METRIC_COLUMNS[3], INF) == "∞"


def test_missing_lpips_gives_the_record_s_reason(tables: dict[str, Table]) -> None:
    table = tables["table5"]
    assert rows_of(table, method="unet")[0]["LPIPS/seg"] is None
    line = next(note for note in table.notes if note.startswith("LPIPS missing"))
    assert "AlexNet trunk is not on this machine" in line
    assert "sdseg_z0" not in line


def test_cost_names_its_memory_and_ranks_within_one_machine(tmp_path: Path) -> None:
    gpu = {"device": {"type": "cuda", "name": "GPU"}, "threads": 1}
    cpu = {"device": {"type": "cpu", "name": "CPU"}, "threads": 1}
    for method, environment, values in (
        ("a", cpu, {"peak_rss_mib": 600.0, "latency_ms_p50": 50.0}),
        ("b", cpu, {"peak_rss_mib": 500.0, "latency_ms_p50": 60.0}),
        ("c", gpu, {"peak_allocated_mib": 100.0, "latency_ms_p50": 1.0, "steps": 10, "samples": 5}),
    ):
        write_run(tmp_path, method, scores=dice_rows({"x": 0.5}), run_scores=values, environment=environment)
    table = cost.build(read_frame(tmp_path))
    assert [row["memory_kind"] for row in table.rows] == ["RSS", "RSS", "allocated"]
    assert table.best() == {(1, "memory"), (0, "latency_ms_p50")}
    assert table.rows[2]["steps_samples"] == "10 \u00d7 5"
    assert any("more than one device" in note for note in table.notes)
    assert any(note.startswith("GFLOP/sample missing for") for note in table.notes)


def test_datasets_table_counts_groups_of_the_test_split(tmp_path: Path) -> None:
    rows = [(f"c{i}", f"p{i // 2}", "x", 0, "Dice", 0.5) for i in range(6)]
    write_run(tmp_path, scores=score_rows(rows))
    row = datasets.build(read_frame(tmp_path)).rows[0]
    assert (row["cases_train"], row["cases_test"], row["groups_test"], row["groups_train"]) == (
        64,
        40,
        3,
        None,
    )


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
    [
        (0.12345, 3, "0.123"),
        (0.0002, 3, "0.0002"),
        (0.0, 3, "0.000"),
        (NAN, 3, "\u2013"),
        (12345.6, 0, "12,346"),
    ],
)
def test_numbers_as_text(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


def odd_table() -> Table:
    columns = [
        Column("dataset", "Data_set"),
        Column("v", "Dice", better="higher"),
        Column("v_interval", "95 %"),
    ]
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
    text = render_terminal(example)
    longest = max(len(line) for line in text.splitlines())
    assert longest <= 105
    assert "published" not in text
    assert re.search(r"sdseg_z0 +0\.\d{3}\*", text)
    assert "no runs" in to_text(Table("t", "T", "", [Column("a", "A")]))


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
    found = [e.value for e in read_ledger() if (e.table, e.dataset, e.method, e.metric) == key]
    assert found == [value]


def test_ledger_is_complete_and_gives_reasons() -> None:
    ledger = read_ledger()
    counts = {table: sum(entry.table == table for entry in ledger) for table in "23456"}
    assert counts == {"2": 19, "3": 24, "4": 40, "5": 24, "6": 16}
    assert all(entry.why for entry in ledger)
    assert len({(e.table, e.dataset, e.method, e.metric) for e in ledger}) == len(ledger)
    for dice in (e for e in ledger if e.metric == "Dice" and e.table in "36"):
        iou = next(e for e in ledger if (e.table, e.dataset, e.method, e.metric) == (*_cell(dice), "IoU"))
        # Convexity: mean IoU is at least D/(2-D), but for the row whose reason says that it is not.
        bound = 100 * dice.as_measured / (2 - dice.as_measured)
        assert iou.value >= bound - 0.1 or "cannot be a mean" in iou.why


def _cell(entry: Any) -> tuple[str, str, str]:
    return entry.table, entry.dataset, entry.method


def test_published_rows_stand_beside_ours_with_their_flag(tables: dict[str, Table]) -> None:
    table = tables["table2"]
    row = rows_of(table, method="SDSeg [published, not comparable]")[0]
    assert (row["dataset"], row["Dice"], row["cases"]) == ("btcv", pytest.approx(0.928), 12)
    assert not [r for r in table.rows if r.get("published") and r["dataset"] == "phantom/polyp"]
    assert any("not comparable" in note for note in table.notes)


def test_comparable_only_under_its_protocol(tmp_path: Path) -> None:
    lines = LEDGER.read_text().splitlines()
    path = tmp_path / "ledger.csv"
    path.write_text("\n".join([lines[0], lines[1].replace(",no,", ",yes,")]))
    entry = read_ledger(path)[0]
    assert (entry.comparable_with("sdseg"), entry.comparable_with("strict")) == (True, False)
    path.write_text("\n".join([lines[0], lines[1].replace(",no,", ",perhaps,")]))
    with pytest.raises(ValueError, match="line 2"):
        read_ledger(path)


# --- report files and page ---------------------------------------------------------------------------


def test_report_writes_tables_figures_and_page(report: ReportResult) -> None:
    names = {path.name for path in report.index.parent.iterdir()}
    tables = {f"table{n}.{kind}" for n in (1, 2, 4, 5) for kind in ("md", "csv", "tex")}
    figures = {f"figure_{name}.{kind}" for name in ("accuracy", "cost") for kind in ("svg", "png")}
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
    # six galleries of two cases in four panels, and two figures
    assert len(images) == 6 * 2 * 4 + 2
    assert all(re.search(r'alt="[^"]{8,}"', image) for image in images)
    assert "published, not comparable" in page


def test_page_shows_the_numbers_of_the_table(example: Path, report: ReportResult, tables: dict[str, Table]) -> None:
    page = report.index.read_text()
    for row in tables["table2"].rows:
        assert f"{row['Dice']:.3f}" in page
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
    assert [table.name for table in build_tables(read_frame(tmp_path))] == [
        "table1",
        "table2",
        "table4",
        "table5",
    ]
