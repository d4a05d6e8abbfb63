"""Tables by hand: means, counts, groups, and which runs make a row."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.scores import RunScores, Summary
from reports.build import build_report, render_terminal
from reports.frame import read_frame
from reports.summary import reliability_notes
from reports.table import cell
from reports.tables import accuracy, cost, datasets, stability
from tests.report_fixtures import FACTS, dice_rows, made_up_scores, rows_of, score_rows, write_run

ROOT = Path(__file__).resolve().parents[1]
NAN, INF = math.nan, math.inf


# --- frame -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [True, False])
def test_no_runs_still_render_with_fixed_columns(tmp_path: Path, make: bool) -> None:
    runs_dir = tmp_path / "runs"
    if make:
        runs_dir.mkdir()
    frame = read_frame(runs_dir)
    assert frame.runs == []
    result = build_report(runs_dir)
    assert "No runs" in result.index.read_text()
    assert len(result.tables) == 12
    assert bool(result.warnings) is not make


def test_foreign_and_broken_folders_are_one_warning_each(tmp_path: Path) -> None:
    good = write_run(tmp_path, scores=dice_rows({"a": 0.5}))
    (tmp_path / "notes").mkdir()
    (tmp_path / "phantom-polyp" / "unet" / "seed0-unfinished").mkdir(parents=True)
    (tmp_path / "phantom-polyp" / "unet" / "seed0-unfinished" / "config.yaml").touch()
    bad_record = write_run(tmp_path, "bad_record")
    (bad_record / "record.json").write_text("{")
    bad_scores = write_run(tmp_path, "bad_scores")
    (bad_scores / "scores.parquet").write_text("no parquet")
    (tmp_path / "report").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "summary.json").touch()  # as score-folder once left it
    frame = read_frame(tmp_path)
    assert [run.path for run in frame.runs] == [bad_scores, good]
    assert [run.path for run in frame.runs if run.scores] == [good]
    for part in ("notes", "seed0-unfinished", "old: scored by an earlier version", str(bad_record), str(bad_scores)):
        assert sum(part in line for line in frame.warnings) == 1
    assert len(frame.warnings) == 5
    assert all("\n" not in line for line in frame.warnings)


def test_only_the_runs_asked_for(example: Path) -> None:
    chosen = sorted(example.glob("btcv/sdseg/seed*"))
    text = render_terminal(example, chosen)
    assert "btcv" in text
    assert "phantom" not in text


def test_settings_that_differ_name_the_rows(tmp_path: Path) -> None:
    for steps in (1, 10):
        for seed in (0, 1):
            config = {"method": {"name": "sdseg", "options": {"steps": steps}}, "seed": seed, "runs_dir": f"{seed}"}
            write_run(tmp_path, seed=seed, scores=dice_rows({"a": steps / 20, "b": 0.5}), config=config)
    table = accuracy.build(read_frame(tmp_path))
    assert [(row["method"], row["seeds"]) for row in table.rows] == [
        ("sdseg (steps=1)", "0, 1"),
        ("sdseg (steps=10)", "0, 1"),
    ]
    assert table.rows[1]["Dice"] == pytest.approx(0.5)


def test_older_runs_without_a_later_key_share_a_row_with_todays(tmp_path: Path) -> None:
    """A key that came later is as good as not there at the value at which it changes nothing, and is said otherwise."""
    for seed, options, inference in (
        (0, {}, {}),
        (1, {"objective": "dice_bce", "late_times": 0.0}, {"backend": "auto", "recheck": None}),
        (2, {"objective": "ssformer"}, {}),
    ):
        config = {"method": {"name": "unet", "options": {"width": 3, **options}, "inference": inference}}
        write_run(tmp_path, "unet", seed=seed, scores=dice_rows({"a": 0.5, "b": 0.6}), config=config)
    rows = accuracy.build(read_frame(tmp_path)).rows
    assert [(row["method"], row["seeds"]) for row in rows] == [
        ("unet (objective=dice_bce)", "0, 1"),
        ("unet (objective=ssformer)", "2"),
    ]


def test_the_newer_of_two_equal_runs_counts(tmp_path: Path) -> None:
    old = write_run(tmp_path, scores=dice_rows({"a": 0.1}), notes=["old"])
    new = write_run(tmp_path, scores=dice_rows({"a": 0.9}), notes=["new"])
    os.utime(old / "record.json", (1, 1))
    frame = read_frame(tmp_path)
    assert [run.path for run in frame.runs] == [new]
    assert [old.name in line for line in frame.warnings] == [True]


def test_scoring_stamp_is_not_another_data_set(tmp_path: Path) -> None:
    for method in ("sdseg", "unet"):
        write_run(tmp_path, method, scores=dice_rows({"a": 0.5}), data={"data": "d", "split": "s", "scoring": method})
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


def test_the_spread_of_cases_stands_beside_the_mean(tmp_path: Path) -> None:
    write_run(tmp_path, scores=dice_rows({f"c{number:02d}": number / 20 for number in range(21)}))
    row = accuracy.build(read_frame(tmp_path)).rows[0]
    listed = [row[f"Dice_{name}"] for name in ("p5", "q1", "median", "q3")]
    assert listed == pytest.approx([0.05, 0.25, 0.5, 0.75])
    low, high = row["Dice_median_interval"]
    assert 0.2 < low < 0.5 < high < 0.8


def test_seeds_are_averaged_within_cases_and_listed(tmp_path: Path) -> None:
    write_run(tmp_path, seed=0, scores=dice_rows({"a": 0.2, "b": 0.6}))
    write_run(tmp_path, seed=3, scores=dice_rows({"a": 0.4, "b": 0.8}))
    row = accuracy.build(read_frame(tmp_path)).rows[0]
    assert row["Dice"] == pytest.approx(0.5)
    assert row["Dice_sd"] == pytest.approx(0.4 / math.sqrt(2))
    assert (row["cases"], row["seeds"]) == (2, "0, 3")


def dice_summary(rows: pd.DataFrame) -> Summary:
    return RunScores(rows).summary("Dice", FACTS["Dice"])


def test_draws_are_never_pooled_as_cases() -> None:
    scores = made_up_scores(0.8, n=20, draws=5)
    summary = dice_summary(scores)
    assert (summary.cases, summary.units, summary.excluded, summary.undefined) == (19, 19, 1, 5)


@pytest.mark.parametrize(("n", "expected"), [(9, "no interval (n=9)"), (12, "CI unreliable (n=12)"), (30, None)])
def test_small_samples_say_so(n: int, expected: str | None) -> None:
    rng = np.random.default_rng(0)
    summary = dice_summary(dice_rows({f"c{i}": rng.uniform() for i in range(n)}))
    notes = reliability_notes([("m on d", summary)])
    assert (summary.interval is None) == (n < 10)
    assert [expected in note for note in notes] == [True] if expected else notes == []


def test_groups_not_cases_decide_on_reliability() -> None:
    rows = [(f"c{i}", f"p{i % 6}", "x", 0, "Dice", i / 40) for i in range(36)]
    summary = dice_summary(score_rows(rows))
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


def test_paper_mode_is_a_mean_over_images_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    rows = [
        ("a", "a", "x", -1, "PSNR/seg", 30.0),
        ("b", "b", "x", -1, "PSNR/seg", 20.0),
        ("c", "c", "x", -1, "PSNR/seg", NAN),
    ]
    rows += [(c, c, "x", -1, "images/PSNR/seg", n) for c, n in (("a", 1), ("b", 3), ("c", 0))]
    rows += [(c, c, "x", -1, "slices_without_reference", 2) for c in "abc"]
    rows += [(c, c, "x", -1, "empty_pairs/seg", 1) for c in "ab"]
    strict = [(c, c, "x", -1, "flip_rate", 0.25) for c in "abc"]
    scores = pd.concat([score_rows(rows, convention="sdseg"), score_rows(strict)], ignore_index=True)
    write_run(tmp_path, scores=scores)
    table = stability.build(read_frame(tmp_path))
    row = table.rows[0]
    assert row["PSNR/seg"] == pytest.approx((30 + 3 * 20) / 4)
    assert row["PSNR/seg_interval"] is None
    assert (row["convention"], row["flip_rate"], row["cases"]) == ("sdseg", 0.25, 3)
    (note,) = (note for note in table.notes if "leaves out" in note)
    assert "6 slices without reference" in note
    assert "2 pairs in which the other draw found nothing" in note


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
    assert any(note.startswith("GFLOP/answer missing for") for note in table.notes)


def test_cost_tells_answers_samples_and_network_calls_apart(tmp_path: Path) -> None:
    ensemble = {"steps": 50, "samples": 25, "nfe": 1250, "slices_per_call": 1}
    ensemble |= {"samples_per_s": 0.02, "latency_ms_p50": 50_000.0}
    volumes = {"steps": 10, "samples": 1, "nfe": 40, "slices_per_call": 32, "samples_per_s": 16.0}
    volumes |= {"latency_ms_p50": 2000.0, "gflop_per_sample": 2.0, "limit_gflop_per_s": 64.0}
    one = {"steps": 1, "samples": 1, "nfe": 1, "slices_per_call": 1, "samples_per_s": 8.0, "latency_ms_p50": 125.0}
    for method, values in (("ensemble", ensemble), ("volumes", volumes), ("one", one)):
        write_run(tmp_path, method, "btcv", scores=dice_rows({"x": 0.5}), run_scores=values, dims=3)
    table = cost.build(read_frame(tmp_path))
    row = rows_of(table, method="ensemble")[0]
    assert (row["samples_per_s"], row["single_samples_per_s"], row["ms_per_evaluation"]) == (0.02, 0.5, 40)
    assert (row["steps_samples"], row["call"]) == ("50 \u00d7 25", "1 slice")
    row = rows_of(table, method="volumes")[0]
    assert (row["samples_per_s"], row["ms_per_evaluation"], row["call"]) == (16, 50, "32 slices")
    assert row["share_of_limit"] == 0.5
    order = [row["method"] for row in table.rows]
    best = {(order[index], key) for index, key in table.best()}
    # Slices per second compare; the time and the evaluations of a block do not compare with those of a slice.
    assert best == {("volumes", "samples_per_s"), ("one", "latency_ms_p50"), ("one", "nfe")}


def test_datasets_table_counts_groups_of_the_test_split(tmp_path: Path) -> None:
    rows = [(f"c{i}", f"p{i // 2}", "x", 0, "Dice", 0.5) for i in range(6)]
    write_run(tmp_path, scores=score_rows(rows))
    row = datasets.build(read_frame(tmp_path)).rows[0]
    assert (row["cases_train"], row["cases_test"], row["groups_test"], row["groups_train"]) == (64, 40, 3, None)
