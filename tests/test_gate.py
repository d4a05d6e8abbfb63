"""The gate: one honest pass, and a failure with its reason for everything that may be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import cli
from bench.config import Cell, compose_config, expand
from bench.errors import InputError
from bench.gate import Reference, RunFacts, Verdict, judge, read_reference, run_facts, write_reference
from bench.gate.command import choose_reference, gate_settings
from bench.gate.promotion import refusals
from bench.record import Score, Timing
from bench.runner import Run
from bench.store import RunFolder
from suites.reference_workload import ReferenceWorkload
from tests.report_fixtures import made_up_scores, score_rows, write_run

pytest_plugins = ["pytester"]

COMMIT = "0123456789abcdef"
ENVIRONMENT = {
    "git": {"commit": COMMIT, "dirty": False},
    "device": {"type": "cpu", "name": "Example CPU"},
    "torch": {"threads": 1},
    "packages": {"torch": "2.13.0"},
}
BENCHMARKS = {"test_accuracy": "passed", "test_speed[batch_size=1]": "passed", "test_footprint": "passed"}
COMPOSED: dict[tuple[str, ...], dict[str, Any]] = {}
SETTINGS = gate_settings(expand(["profile=smoke", "method=unet", "dataset=phantom/polyp", "seed=0"])[0])


@pytest.fixture(autouse=True)
def composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra takes half a second for what these tests ask again and again."""

    def compose(overrides: list[str]) -> dict[str, Any]:
        key = tuple(o for o in overrides if not o.startswith("runs_dir="))
        if key not in COMPOSED:
            COMPOSED[key] = compose_config(list(key))
        runs_dir = [o.partition("=")[2] for o in overrides if o.startswith("runs_dir=")]
        return {**deepcopy(COMPOSED[key]), **({"runs_dir": runs_dir[0]} if runs_dir else {})}

    monkeypatch.setattr("bench.config.compose_config", compose)


def rounds(factor: float = 1.0, count: int = 12, noise: float = 0.01, machine: float = 1.0, seed: int = 0) -> Timing:
    """Timed calls of 40 ms beside a workload of 10 ms."""
    rng = np.random.default_rng(seed)
    seconds = 0.04 * factor * machine * np.exp(rng.normal(0, noise, count))
    workload = 0.01 * machine * np.exp(rng.normal(0, noise, count))
    return Timing(seconds=seconds.tolist(), workload=workload.tolist(), workload_name="convolutions")


def make_run(folder: Path, scores: pd.DataFrame | None = None, mib: float = 600.0, **record: Any) -> Path:
    """A run with accuracy, stability, rounds and memory."""
    fields = {
        "hash": "a" * 64,
        "draws": 3,
        "data": {"data": "d4" * 32, "split": "5b" * 32, "scoring": "5c" * 32},
        "environment": ENVIRONMENT,
        "benchmarks": BENCHMARKS,
        "timings": {"predict_batch1": rounds()},
    }
    found = made_up_scores(0.86, n=24, draws=3) if scores is None else scores
    path = write_run(folder, "unet", scores=found, **{**fields, **record})
    run = RunFolder(path)
    run.write_record(run.read_record().with_scores([Score(metric="peak_rss_mib", value=mib, unit="MiB")]))
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    return run_facts(make_run(tmp_path_factory.mktemp("good")))


def changed(change: Callable[[pd.DataFrame], pd.DataFrame]) -> dict[str, Any]:
    return {"scores": change(made_up_scores(0.86, n=24, draws=3))}


def shifted(metric: str, by: float, noise: float = 0.0) -> dict[str, Any]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        moved = frame["value"] + by + np.random.default_rng(1).normal(0, noise, len(frame))
        return frame.assign(value=frame["value"].mask(frame["metric"] == metric, moved))

    return changed(change)


def at_case(metric: str, case: str, value: float) -> dict[str, Any]:
    return changed(
        lambda frame: frame.assign(
            value=frame["value"].mask((frame["metric"] == metric) & (frame["case"] == case), value)
        )
    )


def environment(**changes: Any) -> dict[str, Any]:
    return {"environment": {**ENVIRONMENT, **changes}}


def data(**changes: str) -> dict[str, Any]:
    return {"data": {"data": "d4" * 32, "split": "5b" * 32, "scoring": "5c" * 32, **changes}}


def verdict(good: RunFacts, now: RunFacts | str, **settings: Any) -> Verdict:
    reference = Reference(profile=good.profile, runs=[good])
    return judge(reference, {good.key: now}, {**SETTINGS, **settings}, COMMIT)


# --- an honest pass ---------------------------------------------------------------------------------------


def test_the_same_run_passes(good: RunFacts) -> None:
    found = verdict(good, good)
    assert found.passed
    assert {row.kind for row in found.rows} == {"run", "accuracy", "stability", "speed", "memory"}
    assert "gate passed" in found.table()
    assert [row.verdict for row in found.rows if row.metric == "Dice"] == ["pass: identical"]


def test_a_little_noise_a_slower_machine_and_newer_packages_pass(good: RunFacts, tmp_path: Path) -> None:
    changes = shifted("Dice", 0.001, noise=0.01)
    now = make_run(
        tmp_path,
        **changes,
        mib=610.0,
        timings={"predict_batch1": rounds(1.01, machine=2.5, seed=1)},
        **environment(packages={"torch": "2.14.0"}),
    )
    found = verdict(good, run_facts(now))
    assert found.passed, found.table()
    (speed,) = (row for row in found.rows if row.kind == "speed")
    assert speed.now.endswith("x workload")
    assert float(speed.now.split()[0]) == pytest.approx(float(speed.reference.split()[0]), rel=0.05)


def test_the_table_is_short_and_shows_what_is_closest_to_its_limit(good: RunFacts, tmp_path: Path) -> None:
    found = verdict(good, run_facts(make_run(tmp_path, **shifted("IoU", -0.005))))
    lines = found.table().splitlines()
    accuracy = [row for row in found.rows if row.kind == "accuracy"]
    assert [row.metric for row in accuracy] == ["Dice", "IoU"]
    assert len(lines) == 2 + 5 + 1  # header, one row per kind, the sum
    assert any("IoU" in line and "gain -0.0050, at least -0.0050" in line for line in lines)
    assert len(found.table(every=True).splitlines()) == 2 + len(found.rows) + 1


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
    "slower": ({"timings": {"predict_batch1": rounds(1.2, seed=1)}}, "predict_batch1", "1.21 x the reference [1."),
    "slower, as the machine is faster": (
        {"timings": {"predict_batch1": rounds(1.2, machine=0.5, seed=1)}},
        "predict_batch1",
        "1.21 x the reference [1.",
    ),
    "too noisy": (
        {"timings": {"predict_batch1": rounds(1.0, count=5, noise=0.8, seed=3)}},
        "predict_batch1",
        "too noisy to tell",
    ),
    "one round": ({"timings": {"predict_batch1": rounds(count=1)}}, "predict_batch1", "a single round"),
    "no rounds": ({"timings": {"predict_batch1": rounds(count=0)}}, "predict_batch1", "expected at least one"),
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
    "another device": (environment(device={"type": "cpu", "name": "Other CPU"}), "device", "another device"),
    "another thread count": (environment(torch={"threads": 2}), "threads", "another threads"),
    "other data": (data(data="00" * 32), "data", "another data"),
    "another split": (data(split="00" * 32), "split", "another split"),
    "data unknown": (data(data=""), "data", "another data"),
    "other metrics or LPIPS": (data(scoring="00" * 32), "scoring", "LPIPS in one of them only"),
    "another protocol": ({"protocol": "nnunet"}, "protocol", "another protocol"),
    "another profile": ({"profile": "cpu"}, "profile", "another profile"),
    "another configuration": ({"hash": "b" * 64}, "configuration", "another configuration"),
    "other draws": ({"draws": 2}, "draws", "another draws"),
    "fewer cases": (changed(lambda f: f[f["case"] != "case-004"]), "cases", "case case-004 is in one of them only"),
    "other groups": (changed(lambda f: f.assign(group="one")), "cases", "other groups"),
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
    "results of an older revision": (
        environment(git={"commit": "fedcba9876543210", "dirty": False}),
        "revision",
        "another revision",
    ),
}


@pytest.mark.parametrize("what", FAILURES)
def test_fails_with_its_reason(what: str, good: RunFacts, tmp_path: Path) -> None:
    change, metric, reason = FAILURES[what]
    found = verdict(good, run_facts(make_run(tmp_path, **change)))
    assert not found.passed
    rows = [row for row in found.rows if not row.passed and row.metric == metric]
    assert rows, found.table()
    assert reason in rows[0].verdict
    assert rows[0].verdict in found.table()
    assert "gate FAILED" in found.table()


def test_only_what_changed_fails(good: RunFacts, tmp_path: Path) -> None:
    for what in ("accuracy falls", "draws agree less", "slower", "more memory", "another device"):
        change, metric, _ = FAILURES[what]
        rows = verdict(good, run_facts(make_run(tmp_path / what, **change))).rows
        assert [row.metric for row in rows if not row.passed] == [metric]


def test_a_run_that_is_missing_or_new_fails(good: RunFacts) -> None:
    assert "no results" in verdict(good, "no results in runs/x").table()
    reference = Reference(profile="smoke", runs=[good])
    assert not judge(reference, {}, SETTINGS, COMMIT).passed
    other = good.model_copy(update={"method": "sdseg"})
    found = judge(reference, {good.key: good, other.key: other}, SETTINGS, COMMIT)
    assert [(row.run, row.reason) for row in found.rows if not row.passed] == [
        ("phantom/polyp-sdseg-seed0", "new: not in the reference")
    ]


def test_a_cell_that_is_in_neither_is_none_of_the_gates_business(good: RunFacts) -> None:
    runs = {good.key: good, ("phantom/polyp", "diff_unet_3d", 0): "segments volumes"}
    assert judge(Reference(profile="smoke", runs=[good]), runs, SETTINGS, COMMIT).passed


@pytest.mark.parametrize("dirty", [True, None])
def test_a_dirty_reference_fails(good: RunFacts, dirty: bool | None) -> None:
    found = verdict(good.model_copy(update={"dirty": dirty}), good)
    assert "made from a dirty or unknown tree" in found.table()


def test_an_unknown_split_on_both_sides_fails(good: RunFacts) -> None:
    unknown = good.model_copy(update={"split": ""})
    assert [row.reason for row in verdict(unknown, unknown).rows if not row.passed] == ["unknown"]


def test_nothing_judged_is_no_pass() -> None:
    assert not Verdict(()).passed


def test_two_groups_are_needed_unless_identical(good: RunFacts, tmp_path: Path) -> None:
    def of(value: float) -> pd.DataFrame:
        return score_rows([(f"case-{i}", "one patient", "lesion", 0, "Dice", value) for i in range(5)])

    old, new = (run_facts(make_run(tmp_path / str(value), scores=of(value), draws=1)) for value in (0.8, 0.9))
    assert verdict(old, old).passed
    assert "no interval with 1 group" in verdict(old, new).table()  # even though it is better


def test_every_label_is_judged(tmp_path: Path) -> None:
    labels = ["label0", "label1"]
    frame = made_up_scores(0.86, n=24, draws=3, labels=2)
    worse = (frame["metric"] == "Dice") & (frame["label"] == "label1")
    old = run_facts(make_run(tmp_path / "old", scores=frame, labels=labels))
    changed_frame = frame.assign(value=frame["value"] - 0.02 * worse)
    new = run_facts(make_run(tmp_path / "new", scores=changed_frame, labels=labels))
    assert [row.metric for row in verdict(old, new).rows if not row.passed] == ["Dice label1"]


def test_margins_are_the_settings(good: RunFacts, tmp_path: Path) -> None:
    worse = run_facts(make_run(tmp_path / "worse", **shifted("Dice", -0.02)))
    assert verdict(good, worse, margins={"Dice": 0.03}).passed
    other = run_facts(make_run(tmp_path / "other", **environment(device={"type": "cpu", "name": "Other CPU"})))
    assert verdict(good, other, device="type").passed
    cuda = run_facts(make_run(tmp_path / "cuda", **environment(device={"type": "cuda", "name": "Example CPU"})))
    assert not verdict(good, cuda, device="type").passed


def test_a_metric_with_a_unit_has_a_relative_margin(tmp_path: Path) -> None:
    def of(by: float) -> pd.DataFrame:
        return score_rows([(f"case-{i}", f"p{i}", "lesion", 0, "HD95", 10 + i + by) for i in range(12)])

    old = run_facts(make_run(tmp_path / "old", scores=of(0), draws=1))
    near, far = (run_facts(make_run(tmp_path / str(by), scores=of(by), draws=1)) for by in (0.7, 0.9))
    assert verdict(old, near).passed  # 5 % of 15.5 mm
    assert "gain -0.9000" in verdict(old, far).table()


def test_undefined_everywhere_in_both_says_so_and_definedness_fails(good: RunFacts, tmp_path: Path) -> None:
    blank = run_facts(
        make_run(tmp_path, **changed(lambda f: f.assign(value=f["value"].mask(f["metric"] == "SSIM/seg"))))
    )
    (row,) = (row for row in verdict(blank, blank).rows if row.metric == "SSIM/seg")
    assert (row.passed, row.reason) == (True, "undefined on every case, as in the reference")
    assert "newly defined on 24 of 24" in verdict(blank, good).table()


@pytest.mark.parametrize(
    ("key", "value"),
    [("device", "gpu"), ("slower", 0.5), ("unsure", float("nan")), ("margin", -1), ("memory", float("nan"))],
)
def test_settings_that_mean_nothing_are_refused(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"gate.{key}"):
        gate_settings(Cell({"gate": {**SETTINGS, key: value}}))


# --- the file ---------------------------------------------------------------------------------------------


def test_a_reference_comes_back_as_it_was_written(good: RunFacts, tmp_path: Path) -> None:
    reference = Reference(profile="smoke", runs=[good])
    write_reference(tmp_path / "reference.json", reference)
    text = (tmp_path / "reference.json").read_text()
    assert read_reference(tmp_path / "reference.json") == reference
    assert max(len(line) for line in text.splitlines()) > 100  # a list is one line
    assert json.loads(text)["runs"][0]["accuracy"]["Dice"]["values"][-1] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "make one with sdseg gate --promote"),
        ("{}", "profile"),
        ("not json", "not a reference"),
        ('{"profile": "smoke", "runs": []}', "runs"),
    ],
)
def test_a_bad_reference_is_one_line(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_reference(path)
    assert str(path) in str(caught.value)


def test_another_schema_and_a_run_twice_are_refused(good: RunFacts, tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    write_reference(path, Reference(profile="smoke", runs=[good], schema_version=99))
    with pytest.raises(InputError, match="schema 99"):
        read_reference(path)
    write_reference(path, Reference(profile="smoke", runs=[good, good]))
    with pytest.raises(InputError, match="twice"):
        read_reference(path)


def test_the_default_file_is_named_by_profile_and_device() -> None:
    path = choose_reference(None, ["methods=[unet]", "profile=cpu"])
    assert path.parent.name == "references"
    assert path.name in ("cpu-cpu.json", "cpu-cuda.json", "cpu-mps.json")


# --- promotion --------------------------------------------------------------------------------------------


def test_a_clean_whole_run_may_be_promoted(good: RunFacts) -> None:
    assert refusals({good.key: good}, COMMIT, False) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dirty": True}, "dirty or unknown tree"),
        ({"dirty": None}, "dirty or unknown tree"),
        ({"commit": "fedcba98"}, "made at revision fedcba98"),
        ({"benchmarks": {**BENCHMARKS, "test_accuracy": "failed"}}, "benchmark test_accuracy failed"),
        ({"benchmarks": {}}, "no benchmark ran"),
        ({"accuracy": {}}, "no accuracy"),
        ({"stability": {}}, "no stability"),
        ({"speed": {}}, "no speed"),
        ({"memory": {}}, "no memory"),
        ({"memory": {"peak_rss_mib": None}}, "peak_rss_mib is undefined"),
    ],
)
def test_promotion_refuses(change: dict[str, Any], reason: str, good: RunFacts) -> None:
    found = refusals({good.key: good.model_copy(update=change)}, COMMIT, False)
    assert [line for line in found if reason in line]


def test_promotion_refuses_a_dirty_checkout_a_missing_run_and_two_machines(good: RunFacts) -> None:
    assert "uncommitted" in refusals({good.key: good}, COMMIT, True)[0]
    assert "uncommitted" in refusals({good.key: good}, None, None)[0]
    other = ("phantom/polyp", "sdseg", 0)
    assert refusals({good.key: good, other: "no results"}, COMMIT, False) == ["phantom/polyp-sdseg-seed0: no results"]
    two = good.model_copy(update={"method": "sdseg", "threads": 4})
    assert "more than one threads" in refusals({good.key: good, other: two}, COMMIT, False)[0]


# --- the command ------------------------------------------------------------------------------------------


class Project:
    """One cell of the smoke profile with made-up results, and a checkout at their revision."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.overrides = ["methods=[unet]", "datasets=[phantom/polyp]", "seeds=[0]", f"runs_dir={root / 'runs'}"]
        self.run = Run(expand(["profile=smoke", *self.overrides])[0]).folder.path
        self.reference = root / "reference.json"

    def make(self, **change: Any) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.rmtree(self.root / "made", ignore_errors=True)
        shutil.copytree(make_run(self.root / "made", **change), self.run)

    def gate(self, *arguments: str) -> int:
        return cli.main(["gate", *arguments, *self.overrides])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr("bench.gate.command.checkout", lambda: (COMMIT, False))
    return Project(tmp_path)


def test_promote_then_gate(project: Project, capsys: pytest.CaptureFixture) -> None:
    project.make()
    assert project.gate("--promote", "--out", str(project.reference)) == 0
    assert project.gate("--reference", str(project.reference)) == 0
    assert "gate passed" in capsys.readouterr().out
    project.make(**shifted("Dice", -0.02))
    assert project.gate("--reference", str(project.reference)) == 1
    assert "FAIL: gain -0.0200" in capsys.readouterr().out
    # the change must be accepted to become the reference
    before = project.reference.read_text()
    assert project.gate("--promote", "--out", str(project.reference)) == 1
    assert "--accept" in capsys.readouterr().err
    assert project.reference.read_text() == before
    assert project.gate("--promote", "--accept", "--out", str(project.reference)) == 0
    assert project.gate("--reference", str(project.reference)) == 0


def test_a_cell_without_results_fails_and_is_not_promoted(project: Project, capsys: pytest.CaptureFixture) -> None:
    project.make()
    assert project.gate("--promote", "--out", str(project.reference)) == 0
    shutil.rmtree(project.run)
    assert project.gate("--reference", str(project.reference)) == 1
    assert "no results in" in capsys.readouterr().out
    assert project.gate("--promote", "--out", str(project.root / "other.json")) == 1
    assert "refused: phantom/polyp-unet-seed0: no results in" in capsys.readouterr().err
    assert not (project.root / "other.json").exists()


def test_a_broken_record_fails(project: Project, capsys: pytest.CaptureFixture) -> None:
    project.make()
    assert project.gate("--promote", "--out", str(project.reference)) == 0
    (project.run / "record.json").write_text("{}")
    assert project.gate("--reference", str(project.reference)) == 1
    assert "not a run record" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--reference", "nowhere.json"),
        ("--out", "x.json"),
        ("--accept",),
        ("--promote", "--reference", "x.json"),
        ("--nonsense",),
        ("-m",),
        ("gate.slower=0.5", "--reference", "x.json"),
    ],
)
def test_bad_usage_is_one_line(project: Project, arguments: tuple[str, ...], capsys: pytest.CaptureFixture) -> None:
    assert project.gate(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error:")
    assert len(error.splitlines()) == 1


# --- the same at the end of a pytest session --------------------------------------------------------------

SUITE = """
def test_accuracy(run, benchmark):
    benchmark.pedantic(lambda: None)

def test_speed(run, batch_size, benchmark):
    benchmark.pedantic(lambda: None)

def test_footprint(run, benchmark):
    benchmark.pedantic(lambda: None)
"""
# The fixture `run` trains; here it finds what was made up.
CONFTEST = """
import pytest
from bench.runner import Run
pytest_plugins = ["bench.plugin"]

@pytest.fixture(scope="session")
def run(request):
    return Run(request.config._sdseg_cells[request.param])
"""


@pytest.fixture
def session(
    pytester: pytest.Pytester, project: Project, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pytest.RunResult]:
    """Run the suite with the gate, against a reference of what was made up first."""
    monkeypatch.setattr("bench.progress.listen", lambda handler: None)  # the inner session must not speak later
    pytester.makeconftest(CONFTEST)
    pytester.mkdir("suites").joinpath("test_suite.py").write_text(SUITE)
    project.make()
    write_reference(project.reference, Reference(profile="smoke", runs=[run_facts(project.run)]))
    chosen = (
        "--methods",
        "unet",
        "--datasets",
        "phantom/polyp",
        "--seeds",
        "0",
        "--set",
        f"runs_dir={project.root}/runs",
        "--set",
        "measure.batch_sizes=[1]",
    )
    gate = ("--gate", str(project.reference))
    return lambda *arguments: pytester.runpytest_inprocess("suites", *chosen, *gate, *arguments)


def test_a_session_with_everything_passes(session: Callable[..., pytest.RunResult]) -> None:
    done = session("--benchmark-only")
    done.assert_outcomes(passed=3)
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*gate against*reference.json*", "gate passed: * 0 failed*"])


def test_a_deselected_benchmark_fails_the_session(session: Callable[..., pytest.RunResult], project: Project) -> None:
    done = session("--benchmark-only", "-k", "not footprint")
    done.assert_outcomes(passed=2, deselected=1)
    assert done.ret == 1
    done.stdout.fnmatch_lines("*test_footprint*FAIL: benchmark did not run*")
    # although the record still says that it passed once
    assert RunFolder(project.run).read_record().benchmarks["test_footprint"] == "passed"


def test_a_session_without_benchmarks_fails(session: Callable[..., pytest.RunResult]) -> None:
    done = session("--benchmark-only", "-k", "nothing")
    assert done.ret == 1
    done.stdout.fnmatch_lines("*FAIL: did not run*")


def test_a_worse_run_fails_the_session(session: Callable[..., pytest.RunResult], project: Project) -> None:
    project.make(timings={"predict_batch1": rounds(1.3, seed=1)})
    done = session("--benchmark-only")
    done.assert_outcomes(passed=3)
    assert done.ret == 1
    done.stdout.fnmatch_lines("*predict_batch1*FAIL: 1.3* x the reference*")


def test_a_failed_benchmark_is_remembered(
    session: Callable[..., pytest.RunResult], project: Project, pytester: pytest.Pytester
) -> None:
    suite = pytester.path / "suites" / "test_suite.py"
    suite.write_text(SUITE.replace("benchmark.pedantic(lambda: None)", "benchmark.pedantic(lambda: 1 / 0)", 1))
    done = session("--benchmark-only")
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines("*test_accuracy*FAIL: benchmark failed*")
    assert RunFolder(project.run).read_record().benchmarks["test_accuracy"] == "failed"
    assert project.gate("--promote", "--out", str(project.root / "other.json")) == 1


def test_without_benchmark_only_or_a_reference_nothing_starts(
    session: Callable[..., pytest.RunResult], project: Project
) -> None:
    done = session()
    assert done.ret == 4
    done.stderr.fnmatch_lines("*--gate judges benchmarks: add --benchmark-only*")
    project.reference.unlink()
    done = session("--benchmark-only")
    assert done.ret == 4
    done.stderr.fnmatch_lines("*reference.json: cannot be read*")


# --- the reference workload -------------------------------------------------------------------------------


def test_every_round_has_the_workload_before_it() -> None:
    workload = ReferenceWorkload("cpu")
    assert workload.seconds == []  # warm-up is not counted
    for _ in range(4):
        assert workload() is None  # pytest-benchmark would take anything else for arguments
    timing = workload.timing([0.1, 0.2, 0.3])
    assert timing.workload == workload.seconds[-3:]
    assert all(value > 0 for value in timing.workload)
    assert "64 x 64" in timing.workload_name
