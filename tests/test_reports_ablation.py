"""Table 6 and Figure 3: which runs they show, what they say in words, and what stays out of the other tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.build import build_report, render_terminal
from reports.figures import convergence as figure
from reports.frame import read_frame
from reports.published import read_ledger
from reports.tables import ablation, build_tables, convergence
from tests.report_fixtures import (
    dice_rows,
    made_up_scores,
    method_config,
    rows_of,
    write_ablation,
    write_run,
    write_sweep,
)

RISING = [0.3, 0.6, 0.8, 0.85]


# --- Table 6 -----------------------------------------------------------------------------------------


def test_only_runs_that_differ_in_nothing_else_are_an_ablation(tmp_path: Path) -> None:
    write_ablation(tmp_path, RISING)
    for name, steps, prediction in (("sdseg_ddim10", 10, "eps"), ("sdseg_z0", 1, "z0")):
        config = method_config(name, steps, prediction=prediction)
        write_run(tmp_path, name, scores=made_up_scores(0.9, 16), config=config)
    write_run(tmp_path, "unet", scores=made_up_scores(0.9, 16))
    table = ablation.build(read_frame(tmp_path))
    assert len(table.rows) == 4


def test_no_switch_turned_no_table(tmp_path: Path) -> None:
    write_run(tmp_path, scores=made_up_scores(0.9, 16), config=method_config("sdseg"))
    frame = read_frame(tmp_path)
    assert ablation.build(frame) is None
    assert convergence.build(frame) is None
    assert figure.build(frame) is None
    assert [table.name for table in build_tables(frame)] == [
        "table1",
        "table2",
        "table4",
        "table5",
        "variance",
        "claims",
    ]


@pytest.mark.parametrize(("qualities", "verdict"), [(RISING, "holds"), ([0.3, 0.8, 0.6, 0.85], "does not hold")])
def test_the_order_in_words(tmp_path: Path, qualities: list[float], verdict: str) -> None:
    write_ablation(tmp_path, qualities)
    line = order_line(tmp_path)
    assert line.startswith(f"phantom/polyp: the paper's order of mean Dice {verdict} (cross-attention 0.")


def order_line(runs_dir: Path) -> str:
    table = ablation.build(read_frame(runs_dir))
    return next(note for note in table.notes if "order" in note)


def test_gains_are_paired_by_case(tmp_path: Path) -> None:
    # The cases differ by far more than the methods, so that only pairing finds the gain; the last row gains nothing.
    for (method, options), shift in zip(ablation_methods(), (0.0, 0.02, 0.04, 0.04), strict=True):
        sign = 0.001 if method == "sdseg" else 0.0
        values = {f"c{i:02d}": 0.05 * i + shift + sign * (-1) ** i for i in range(16)}
        write_run(tmp_path, method, scores=dice_rows(values), config=method_config(method, **options))
    line = order_line(tmp_path)
    assert "concatenation +0.020 [+0.020, +0.020];" in line
    assert "trainable encoder +0.020 [+0.020, +0.020];" in line
    assert line.endswith("(includes zero).")


def ablation_methods() -> list:
    from tests.report_fixtures import ABLATION

    return list(ABLATION.items())


def test_a_missing_row_leaves_the_order_open(tmp_path: Path) -> None:
    for method, options in ablation_methods()[1:]:
        write_run(tmp_path, method, scores=made_up_scores(0.8, 16), config=method_config(method, **options))
    assert order_line(tmp_path) == "phantom/polyp: the paper's order of Dice cannot be checked without cross-attention."


def test_published_rows_carry_the_paper_s_switches(tmp_path: Path) -> None:
    write_ablation(tmp_path, RISING, dataset="btcv", dims=3)
    table = ablation.build(read_frame(tmp_path))
    published = rows_of(table, published=True)
    assert [
        (row["latent_estimation"], row["concatenation"], row["trainable_encoder"], row["Dice"]) for row in published
    ] == [
        ("no", "no", "no", pytest.approx(0.3267)),
        ("no", "yes", "no", pytest.approx(0.8031)),
        ("no", "yes", "yes", pytest.approx(0.9189)),
        ("yes", "yes", "yes", pytest.approx(0.9276)),
    ]
    assert all("[published, not comparable" in row["method"] for row in published)
    assert len({entry.method for entry in read_ledger() if entry.table == "6"}) == len(ablation.PAPER)


# --- Figure 3 ----------------------------------------------------------------------------------------


def test_points_alone_make_a_report_without_empty_tables(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    names = [table.name for table in build_tables(read_frame(tmp_path))]
    assert names == ["table1", "figure3"]
    assert "no rows" not in render_terminal(tmp_path)


def test_seeds_of_a_point_are_one_row(tmp_path: Path) -> None:
    for seed, value in ((0, 0.4), (1, 0.6)):
        config = {**method_config("sdseg.steps5", 5, sweep=True), "seed": seed}
        write_run(tmp_path, "sdseg.steps5", seed=seed, scores=dice_rows({"a": value}), config=config, draws=1)
    table = convergence.build(read_frame(tmp_path))
    assert [(row["Dice"], row["seeds"]) for row in table.rows] == [(pytest.approx(0.5), "0, 1")]


def test_trainings_of_two_profiles_are_two_lines(tmp_path: Path) -> None:
    for profile in ("smoke", "cpu"):
        for steps in (1, 5):
            name = f"sdseg.steps{steps}"
            config = method_config(name, steps, sweep=True)
            write_run(tmp_path, name, scores=dice_rows({"a": 0.5}), config=config, draws=1, profile=profile)
    table = convergence.build(read_frame(tmp_path))
    assert [(row["method"], row["steps"]) for row in table.rows] == [
        ("sdseg (profile=cpu)", 1),
        ("sdseg (profile=cpu)", 5),
        ("sdseg (profile=smoke)", 1),
        ("sdseg (profile=smoke)", 5),
    ]


def write_point(runs_dir: Path, steps: int, samples: int, seconds: float, point: bool = True, **record: Any) -> None:
    name = f"sdseg.steps{steps}.samples{samples}" if point else "sdseg"
    config = method_config(name, steps, sweep=point)
    config["method"]["inference"]["samples"] = samples
    scores = made_up_scores(0.8 + steps * samples / 500, 16)
    write_run(runs_dir, name, scores=scores, config=config, inference={"seconds_per_answer": seconds}, **record)


def test_points_know_their_agreement_and_the_time_of_an_answer(tmp_path: Path) -> None:
    write_point(tmp_path, 1, 1, 0.1, point=False)  # what the method does anyway has a row elsewhere too
    write_point(tmp_path, 10, 1, 0.9)
    write_point(tmp_path, 10, 5, 4.5)
    write_run(tmp_path, "unet", scores=made_up_scores(0.9, 16), config={"method": {"name": "unet", "inference": {}}})
    frame = read_frame(tmp_path)
    assert [row.method for row in frame.rows] == ["sdseg", "unet"]
    table = convergence.build(frame)
    at = [(row["steps"], row["samples"], row["seconds"], row["clock"]) for row in table.rows]
    assert at == [(1, 1, 0.1, "in batches"), (10, 1, 0.9, "in batches"), (10, 5, 4.5, "in batches")]
    assert all(0.9 < row["Dice/pairs"] < 1 and row["LPIPS/score"] > 0 for row in table.rows)
    assert "10 steps of 5 samples, in 45.0 times the time" in table.notes[0]
    drawing = figure.build(frame)
    points = "0.100 at 1 \u00d7 1, 0.900 at 10 \u00d7 1, 4.500 at 10 \u00d7 5"
    assert f"time of an answer (s) on phantom/polyp, sdseg: {points}" in drawing.alt
    assert "in batches" in drawing.caption


def test_times_of_points_are_of_one_kind(tmp_path: Path) -> None:
    for steps, score in ((1, {"latency_ms_p50": 200.0}), (5, {"latency_ms_p50": 800.0}), (10, {})):
        write_point(tmp_path, steps, 1, 0.1 * steps, run_scores=score)
        rows = convergence.build(read_frame(tmp_path)).rows
        assert {row["clock"] for row in rows} == {"one by one" if score else "in batches"}
        assert rows[0]["seconds"] == pytest.approx(0.2 if score else 0.1)


def test_earlier_runs_of_one_sample_are_rows_with_those_of_today(tmp_path: Path) -> None:
    for seed, samples in ((0, None), (1, 1), (2, 5)):
        config = method_config("sdseg")
        config["method"]["inference"] |= {"samples": samples} if samples else {}
        write_run(tmp_path, seed=seed, scores=dice_rows({"a": 0.5}), config=config)
    rows = read_frame(tmp_path).rows
    assert [(row.method, row.seeds) for row in rows] == [("sdseg (samples=1)", "0, 1"), ("sdseg (samples=5)", "2")]


# --- what a row is -----------------------------------------------------------------------------------


def test_row_names_say_what_is_not_the_method_itself(tmp_path: Path) -> None:
    light = method_config("sdseg_fast")
    light["method"]["inference"]["decoder"] = "light"
    for method, fidelity, config in (
        ("sdseg", "reimplemented", method_config("sdseg")),
        ("sdseg_fast", "reimplemented", light),
        ("sdseg_v", "variant", method_config("sdseg_v", prediction="v")),
        ("tiny", "approximation", method_config("tiny")),
        ("unet", "library", method_config("unet")),
    ):
        write_run(tmp_path, method, scores=dice_rows({"a": 0.5}), fidelity=fidelity, config=config)
    names = [run.method for run in read_frame(tmp_path).runs]
    assert names == ["sdseg", "sdseg_fast [light decoder]", "sdseg_v [variant]", "tiny [approximation]", "unet"]
    page = build_report(tmp_path).index.read_text()
    assert '>sdseg_v</a> <span class="badge">variant</span>' in page
    assert '>sdseg_fast</a> <span class="badge">light decoder</span>' in page
