"""The gate: one honest pass, and a failure with its reason for everything that may be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.config import Cell
from bench.errors import InputError
from bench.gate import Reference, RunFacts, Verdict, judge
from bench.gate.command import gate_settings
from bench.gate.terms import NotRun
from tests import gate_fixtures
from tests.gate_fixtures import (
    BENCHMARKS,
    COMMIT,
    SETTINGS,
    at_case,
    changed,
    data,
    environment,
    failures,
    made,
    rounds,
    shifted,
    timed,
    verdict,
)
from tests.report_fixtures import made_up_scores, score_rows

good = gate_fixtures.good

# --- an honest pass ---------------------------------------------------------------------------------------


def test_the_same_run_passes(good: RunFacts) -> None:
    judged = verdict(good, good)
    assert judged.passed
    assert {row.kind for row in judged.rows} == {"run", "accuracy", "stability", "speed", "memory"}
    assert "gate passed" in judged.table()
    assert [row.verdict for row in judged.rows if row.metric == "Dice"] == ["pass: identical"]


def test_a_little_noise_a_slower_machine_and_newer_packages_pass(good: RunFacts, tmp_path: Path) -> None:
    changes = shifted("Dice", 0.001, noise=0.01)
    now = made(
        tmp_path,
        **changes,
        mib=610.0,
        **timed(1.01, machine=2.5, seed=1),
        **environment(packages={"torch": "2.14.0"}),
    )
    judged = verdict(good, now)
    assert judged.passed, judged.table()
    (speed,) = (row for row in judged.rows if row.kind == "speed")
    assert speed.now.endswith("x workload")
    assert float(speed.now.split()[0]) == pytest.approx(float(speed.reference.split()[0]), rel=0.05)


def test_the_table_is_short_and_shows_what_is_closest_to_its_limit(good: RunFacts, tmp_path: Path) -> None:
    judged = verdict(good, made(tmp_path, **shifted("IoU", -0.005)))
    lines = judged.table().splitlines()
    accuracy = [row for row in judged.rows if row.kind == "accuracy"]
    assert [row.metric for row in accuracy] == ["Dice", "IoU"]
    assert len(lines) == 2 + 5 + 1  # header, one row per kind, the sum
    assert any("IoU" in line and "gain -0.0050, at least -0.0050" in line for line in lines)
    assert len(judged.table(every=True).splitlines()) == 2 + len(judged.rows) + 1


# --- every reason to fail ---------------------------------------------------------------------------------

FAILURES: dict[str, tuple[dict[str, Any], str, str]] = {
    # what changed -> (the run, the metric that fails, its reason)
    "accuracy falls": (shifted("Dice", -0.02), "Dice", "gain -0.0200, at least -0.0200"),
    "accuracy is uncertain": (shifted("Dice", 0.0, noise=0.2), "Dice", "at least -0."),
    "draws agree less": (shifted("flip_rate", 0.004), "flip_rate", "gain -0.0040"),
    "identical draws differ": (at_case("PSNR/seg", "case-005", 10.0), "PSNR/seg as RMS error", "gain -"),
    "a metric is missing": (changed(lambda f: f[f["metric"] != "IoU"]), "IoU", "missing"),
    "a stability metric is missing": (changed(lambda f: f[f["metric"] != "flip_rate"]), "flip_rate", "missing"),
    "a metric is new": (
        changed(lambda f: pd.concat([f, f[f["metric"] == "IoU"].assign(metric="NSD")])),
        "NSD",
        "new: not in the reference",
    ),
    "newly undefined": (
        at_case("Dice", "case-003", np.nan),
        "Dice",
        "newly undefined on 1 of 24 cases, first case-003",
    ),
    "a hallucination where nothing was": (at_case("Dice", "case-023", 0.0), "Dice", "newly defined on 1 of 24 cases"),
    "undefined everywhere": (changed(lambda f: f.assign(value=np.nan)), "IoU", "newly undefined on 23 of 24"),
    "another convention": (changed(lambda f: f.assign(convention="nnunet")), "Dice (nnunet)", "new"),
    "one draw of three undefined": (
        changed(lambda f: f.assign(value=f["value"].mask((f["metric"] == "Dice") & (f["draw"] == 1)))),
        "Dice",
        "on 23 cases other draws have a value, first case-000: v nan v; in the reference: all defined",
    ),
    "one draw of three missing": (changed(lambda f: f[f["draw"] != 1]), "IoU", "first case-000: v none v; in the"),
    "a draw too many": (
        changed(lambda f: pd.concat([f, f[f["draw"] == 1].assign(draw=3)])),
        "Dice",
        "first case-000: v v v v; in the",
    ),
    "a row twice": (changed(lambda f: pd.concat([f, f[f["case"] == "case-004"]])), "flip_rate", "first case-004: v+v;"),
    "infinite where it was undefined": (
        at_case("Dice", "case-023", np.inf),
        "Dice",
        "first case-023: inf inf inf; in the reference: nan nan nan",
    ),
    "slower": (timed(1.3, seed=1), "predict_batch1", "1.31 x the reference [1."),
    "slower, as the machine is faster": (timed(1.3, machine=0.5, seed=1), "predict_batch1", "1.31 x the reference [1."),
    "too noisy": (timed(1.0, count=5, noise=0.8, seed=3), "predict_batch1", "too few or too noisy to tell"),
    "one round": (timed(count=1), "predict_batch1", "too few or too noisy to tell"),
    "no rounds": (timed(count=0), "predict_batch1", "expected at least one"),
    "a round without its workload": (
        {"timings": {"predict_batch1": rounds().model_copy(update={"workload": [0.01]})}},
        "predict_batch1",
        "12 rounds beside 1",
    ),
    "another workload": (
        {"timings": {"predict_batch1": rounds().model_copy(update={"workload_name": "matmul"})}},
        "predict_batch1",
        "another reference workload",
    ),
    "speed not measured": ({"timings": {}}, "predict_batch1", "missing"),
    "another batch size": ({"timings": {"predict_batch2": rounds()}}, "predict_batch2", "new"),
    "more memory": ({"mib": 640.0}, "peak_rss_mib", "+6.7%"),
    "memory undefined": ({"mib": np.nan}, "peak_rss_mib", "undefined"),
    "another device": (environment(device={"type": "cpu", "name": "Other CPU"}), "device", "another processor"),
    "another thread count": (environment(torch={"threads": 2}), "threads", "another thread count"),
    "other data": (data(data="00" * 32), "data", "another data"),
    "another split": (data(split="00" * 32), "split", "another split"),
    "data unknown": (data(data=""), "data", "another data"),
    "other metrics": (data(scoring="00" * 32), "scoring", "other metrics"),
    "another protocol": ({"protocol": "nnunet"}, "protocol", "another protocol"),
    "another profile": ({"profile": "cpu"}, "profile", "another profile"),
    "another configuration": ({"hash": "b" * 64}, "configuration", "another configuration"),
    "other draws": ({"draws": 2}, "draws", "another number of draws"),
    "fewer cases": (changed(lambda f: f[f["case"] != "case-004"]), "cases", "case case-004 is in one of them only"),
    "other groups": (changed(lambda f: f.assign(group="one")), "cases", "other groups"),
    "scoring unknown": (data(scoring=""), "scoring", "other metrics"),
    "data that begin alike": (data(data="d4" * 31 + "00"), "data", "another data"),
    "negative memory": ({"mib": -600.0}, "peak_rss_mib", "not above 0"),
    "a benchmark that did not run": (
        {"benchmarks": {k: v for k, v in BENCHMARKS.items() if k != "test_footprint"}},
        "test_footprint",
        "benchmark did not run",
    ),
    "a benchmark that was skipped": (
        {"benchmarks": {**BENCHMARKS, "test_footprint": "skipped"}},
        "test_footprint",
        "skip",
    ),
    "a benchmark that failed": ({"benchmarks": {**BENCHMARKS, "test_accuracy": "failed"}}, "test_accuracy", "failed"),
    "another one that failed": ({"benchmarks": {**BENCHMARKS, "test_more": "failed"}}, "test_more", "failed"),
    "uncommitted changes": (environment(git={"commit": COMMIT, "dirty": True}), "revision", "uncommitted changes"),
    "results of an older revision": (
        environment(git={"commit": "fedcba9876543210", "dirty": False}),
        "revision",
        "another revision",
    ),
}


ALONE = ("accuracy falls", "draws agree less", "slower", "more memory", "another device")


@pytest.mark.parametrize("what", FAILURES)
def test_fails_with_its_reason(what: str, good: RunFacts, tmp_path: Path) -> None:
    change, metric, reason = FAILURES[what]
    judged = verdict(good, made(tmp_path, **change))
    failed = failures(judged)
    assert reason in failed[metric]
    assert failed[metric] in judged.table()
    assert "gate FAILED" in judged.table()
    assert what not in ALONE or list(failed) == [metric]


def test_a_run_that_is_missing_or_new_fails(good: RunFacts) -> None:
    assert "no results" in verdict(good, "no results in runs/x").table()
    reference = Reference(profile="smoke", runs=[good])
    assert not judge(reference, {}, SETTINGS, COMMIT).passed
    other = good.model_copy(update={"method": "sdseg"})
    judged = judge(reference, {good.key: good, other.key: other}, SETTINGS, COMMIT)
    assert [(row.run, row.reason) for row in judged.rows if not row.passed] == [
        ("phantom/polyp-sdseg-seed0", "new: not in the reference")
    ]


def test_a_cell_that_is_in_neither_is_none_of_the_gates_business(good: RunFacts) -> None:
    runs = {good.key: good, ("phantom/polyp", "diff_unet_3d", 0): NotRun("segments volumes")}
    assert judge(Reference(profile="smoke", runs=[good]), runs, SETTINGS, COMMIT).passed


@pytest.mark.parametrize("dirty", [True, None])
def test_a_dirty_reference_fails(good: RunFacts, dirty: bool | None) -> None:
    judged = verdict(good.model_copy(update={"dirty": dirty}), good)
    assert "made from a dirty or unknown tree" in judged.table()


def test_nothing_judged_is_no_pass() -> None:
    assert not Verdict(()).passed


def test_two_groups_are_needed_unless_no_case_is_worse(good: RunFacts, tmp_path: Path) -> None:
    def of(value: float) -> pd.DataFrame:
        return score_rows([(f"case-{i}", "one patient", "lesion", 0, "Dice", value) for i in range(5)])

    old, new = (made(tmp_path / str(value), scores=of(value), draws=1) for value in (0.9, 0.8))
    assert verdict(old, old).passed
    assert "no interval with 1 group" in verdict(old, new).table()
    assert "no case is worse, 5 are better" in verdict(new, old).table(every=True)


def test_every_label_is_judged(tmp_path: Path) -> None:
    labels = ["label0", "label1"]
    frame = made_up_scores(0.86, n=24, draws=3, labels=2)
    worse = (frame["metric"] == "Dice") & (frame["label"] == "label1")
    old = made(tmp_path / "old", scores=frame, labels=labels)
    changed_frame = frame.assign(value=frame["value"] - 0.02 * worse)
    new = made(tmp_path / "new", scores=changed_frame, labels=labels)
    assert list(failures(verdict(old, new))) == ["Dice label1"]


def test_a_metric_with_a_unit_has_a_relative_margin(tmp_path: Path) -> None:
    def of(by: float) -> pd.DataFrame:
        return score_rows([(f"case-{i}", f"p{i}", "lesion", 0, "HD95", 10 + i + by) for i in range(12)])

    old = made(tmp_path / "old", scores=of(0), draws=1)
    near, far = (made(tmp_path / str(by), scores=of(by), draws=1) for by in (0.7, 0.9))
    assert verdict(old, near).passed  # 5 % of 15.5 mm
    assert "gain -0.9000" in verdict(old, far).table()


def test_undefined_everywhere_in_both_says_so_and_definedness_fails(good: RunFacts, tmp_path: Path) -> None:
    blank = made(tmp_path, **changed(lambda f: f.assign(value=f["value"].mask(f["metric"] == "SSIM/seg"))))
    (row,) = (row for row in verdict(blank, blank).rows if row.metric == "SSIM/seg")
    assert (row.passed, row.reason) == (True, "undefined on every case, as in the reference")
    assert "newly defined on 24 of 24" in verdict(blank, good).table()


@pytest.mark.parametrize(
    ("key", "value"),
    [("slower", 0.5), ("drift", float("nan")), ("seconds", -1), ("memory", float("nan"))],
)
def test_settings_that_mean_nothing_are_refused(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"gate.{key}"):
        gate_settings(Cell({"gate": {**SETTINGS, key: value}}))
