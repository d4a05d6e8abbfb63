"""Two runs on the same cases: the answer in words, the table by label, and what is refused."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import cli
from bench.compare import compare_runs, find_run
from bench.errors import InputError
from bench.stats import case_table, compare
from tests.report_fixtures import made_up_scores, score_rows, write_run


def values(by: float, noise: float = 0.02, cases: int = 64, groups: int = 64, seed: int = 0) -> pd.DataFrame:
    """Two draws of every case, the second one off by .02."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).uniform(0.6, 0.9, cases)
    dice = base + by + rng.normal(0, noise, cases)
    rows = [
        (f"case-{i:03d}", f"patient-{i % groups:03d}", "lesion", draw, "Dice", dice[i] + 0.02 * draw)
        for i in range(cases)
        for draw in (0, 1)
    ]
    return score_rows(rows)


def pair(tmp_path: Path, a: pd.DataFrame, b: pd.DataFrame, **of_b: Any) -> tuple[Path, Path]:
    return write_run(tmp_path, "first", scores=a), write_run(tmp_path, "second", scores=b, **of_b)


def test_a_gain_is_told_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    first, second = values(0.02, groups=16, seed=1), values(0.0, groups=16, seed=2)
    answer = compare_runs(*pair(tmp_path, first, second)).answer
    means = [frame.groupby("case")["value"].mean().to_dict() for frame in (first, second)]
    groups = dict(zip(first["case"], first["group"], strict=True))
    expected = compare(case_table(dict(zip("ab", means, strict=True)), groups), "a", "b")
    interval = expected.difference
    assert answer.startswith("first is better than second on Dice: ")
    assert f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}], p = " in answer
    assert f"better on {expected.improved:.0%} of 64 cases (16 groups)" in answer
    assert f"smallest difference this test could see: {expected.detectable:.4f}" in answer
    assert "CI unreliable (n=16 groups, 64 cases)" in answer


def test_the_other_way_round_is_worse(tmp_path: Path) -> None:
    first, second = pair(tmp_path, values(0.02, seed=1), values(0.0, seed=2))
    forth, back = compare_runs(first, second), compare_runs(second, first)
    assert back.answer.startswith("second is worse than first on Dice: -0.0")
    assert forth.rows[0].comparison.difference.estimate == pytest.approx(-back.rows[0].comparison.difference.estimate)
    assert forth.rows[0].p == back.rows[0].p


def test_lower_is_better_where_it_is(tmp_path: Path) -> None:
    distances = [values(by, seed=seed).assign(metric="HD95") for by, seed in ((0.02, 1), (0.0, 2))]
    answer = compare_runs(*pair(tmp_path, *distances), metric="HD95").answer
    assert answer.startswith("first is worse than second on HD95: +0.0")
    assert " mm [" in answer


def test_no_difference_is_never_equality(tmp_path: Path) -> None:
    tight = compare_runs(*pair(tmp_path / "tight", values(0.0, 0.002, seed=1), values(0.0, 0.002, seed=2)))
    assert tight.answer.startswith(
        "No difference shown between first and second on Dice, and first is not worse by 0.01"
    )
    wide = compare_runs(*pair(tmp_path / "wide", values(0.0, 0.1, seed=1), values(0.0, 0.1, seed=2)))
    assert wide.answer.startswith("No difference shown between first and second on Dice, nor that first is not worse")


def test_equal_runs_are_equal(tmp_path: Path) -> None:
    answer = compare_runs(*pair(tmp_path, values(0.0), values(0.0))).answer
    assert answer == "first and second are equal on Dice, on each of 64 cases."


def test_few_groups_are_listed(tmp_path: Path) -> None:
    frames = (values(0.05, 0.001, cases=9, groups=3, seed=1), values(0.0, 0.001, cases=9, groups=3, seed=2))
    answer = compare_runs(*pair(tmp_path, *frames)).answer
    assert "values listed" in answer
    assert answer.count("+0.0") >= 3
    assert answer.startswith("No difference shown")  # three groups cannot reach p < .05, however large the gain


def test_undefined_cases_are_counted_and_all_undefined_is_no_answer(tmp_path: Path) -> None:
    first, second = values(0.02, seed=1), values(0.0, seed=2)
    first.loc[first["case"] == "case-000", "value"] = np.nan
    comparison = compare_runs(*pair(tmp_path / "some", first, second))
    assert comparison.answer.startswith(
        "On the cases with a value in both (1 have none in first alone, 0 in second alone), first is better than second"
    )
    assert "of 63 cases (63 groups, 1 more undefined in one or both)" in comparison.answer
    nothing = compare_runs(*pair(tmp_path / "none", first.assign(value=np.nan), second))
    assert nothing.answer == "first and second cannot be compared on Dice: no case is defined in both."
    assert "undefined" in nothing.table()


def test_labels_have_lines_and_holm(tmp_path: Path) -> None:
    frame = made_up_scores(0.8, n=40, draws=2, labels=3)
    gain = np.where(frame["label"] == "label1", 0.02, 0.0) + np.random.default_rng(5).normal(0, 0.01, len(frame))
    labels = ["label0", "label1", "label2"]
    a = write_run(tmp_path, "first", scores=frame.assign(value=frame["value"] + gain), labels=labels)
    b = write_run(tmp_path, "second", scores=frame, labels=labels)
    comparison = compare_runs(a, b)
    assert [row.label for row in comparison.rows] == ["all labels", *labels]
    plain = [row.comparison.p for row in comparison.rows]
    assert comparison.rows[0].p == plain[0]
    assert comparison.rows[2].p == pytest.approx(3 * plain[2])  # the smallest of three
    macro = np.mean([row.comparison.difference.estimate for row in comparison.rows[1:]])
    assert comparison.rows[0].comparison.difference.estimate == pytest.approx(macro)
    lines = comparison.table().splitlines()
    assert len(lines) == 2 + 4
    assert "p (Holm over labels)" in lines[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "btcv"}, "another dataset"),
        ({"data": {"data": "00", "split": "5b" * 32}}, "another data "),
        ({"data": {"data": "d4" * 32, "split": "00"}}, "another split"),
        ({"protocol": "nnunet"}, "another protocol"),
        ({"labels": ["cup"]}, "another labels"),
    ],
)
def test_other_circumstances_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    runs = pair(tmp_path, values(0.0), values(0.0), **change)
    with pytest.raises(InputError, match=message):
        compare_runs(*runs)


def test_other_cases_conventions_metrics_and_the_same_run_are_refused(tmp_path: Path) -> None:
    frame = values(0.0)
    for name, other, message in (
        ("cases", frame[frame["case"] != "case-007"], "case 'case-007' is in first but not in second"),
        ("convention", frame.assign(convention="nnunet"), "two conventions"),
        ("metric", frame.assign(metric="IoU"), "holds no Dice; it has IoU"),
    ):
        with pytest.raises(InputError, match=message):
            compare_runs(*pair(tmp_path / name, frame, other))
    run = write_run(tmp_path, scores=frame)
    with pytest.raises(InputError, match="the same twice"):
        compare_runs(run, run)
    with pytest.raises(InputError, match="no better direction"):
        compare_runs(run, run, metric="VolumeBias")


def test_runs_of_one_method_are_told_apart_by_seed(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "unet", seed=seed, scores=values(0.02 * seed, seed=seed)) for seed in (0, 1)]
    assert compare_runs(*runs).answer.startswith("unet seed 0 is worse than unet seed 1")


def test_a_method_with_one_run_needs_no_folder(tmp_path: Path) -> None:
    run = write_run(tmp_path, "unet", scores=values(0.0))
    assert find_run("unet", tmp_path) == run
    assert find_run(str(run), tmp_path / "elsewhere") == run
    scored = Path(copytree(run, tmp_path / "scored"))  # as score-folder --out RUNS/scored leaves it
    assert find_run("scored", tmp_path) == scored
    with pytest.raises(InputError, match="nothing: no scored run"):
        find_run("nothing", tmp_path)
    write_run(tmp_path, "unet", seed=1, scores=values(0.0))
    with pytest.raises(InputError, match="2 runs of that method"):
        find_run("unet", tmp_path)


def test_the_command_prints_the_answer_the_condition_and_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pair(tmp_path, values(0.02, seed=1), values(0.0, seed=2))
    assert cli.main(["compare", "first", "second", "--runs", str(tmp_path)]) == 0
    answer, condition, empty, *table = capsys.readouterr().out.splitlines()
    assert answer.startswith("first is better than second on Dice")
    assert "conditional on one training run" in condition
    assert (empty, len(table)) == ("", 3)
    assert cli.main(["compare", "first", "third", "--runs", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: third: no scored run")


def test_equal_or_better_is_said_of_the_cases_with_a_value_in_both(tmp_path: Path) -> None:
    first, second = values(0.02, seed=1), values(0.02, seed=1)
    second.loc[second["case"].isin(["case-000", "case-001"]), "value"] = np.inf
    words = (
        "On the cases with a value in both (0 have none in first alone, 2 in second alone), first and second are equal"
    )
    assert compare_runs(*pair(tmp_path, first, second)).answer.startswith(words)


def test_one_protocol_at_two_sizes_is_two_protocols(tmp_path: Path) -> None:
    runs = [
        write_run(
            tmp_path,
            f"unet{size}",
            scores=values(0.0),
            protocol="sdseg",
            config={"protocol": {"name": "sdseg", "size": size}},
        )
        for size in (128, 256)
    ]
    with pytest.raises(InputError, match=r"another protocol \(sdseg \(size 128\), sdseg \(size 256\)\)"):
        compare_runs(*runs)
