"""The gate on the command line and at the end of a pytest session, and the workload beside the rounds."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from bench.gate import Reference, run_facts, write_reference
from bench.measure.workload import ReferenceWorkload
from bench.results.store import RunFolder
from tests import gate_fixtures
from tests.gate_fixtures import COMMIT, Project, shifted, timed

pytest_plugins = ["pytester"]
composed_once, project = gate_fixtures.composed_once, gate_fixtures.project

# --- the command ------------------------------------------------------------------------------------------


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
    shown = capsys.readouterr()
    assert "which --accept replaces" in shown.out
    assert f"refused: {project.reference} is not written" in shown.err
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
    assert "FAIL: no results in" in capsys.readouterr().out
    assert not (project.root / "other.json").exists()


def test_runs_that_were_not_asked_for_are_named_and_not_judged(
    project: Project, session: Callable[..., pytest.RunResult], capsys: pytest.CaptureFixture
) -> None:
    mine = run_facts(project.run)
    write_reference(
        project.reference, Reference(profile="smoke", runs=[mine, mine.model_copy(update={"method": "other"})])
    )
    said = "not judged, since these runs were not asked for: phantom/polyp-other-seed0"
    assert project.gate("--reference", str(project.reference)) == 0
    assert said in capsys.readouterr().out
    done = session("--benchmark-only")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["gate passed: * 0 failed*", f"*{said}"])
    # a reference with nothing of what was asked for opens no gate
    write_reference(project.reference, Reference(profile="smoke", runs=[mine.model_copy(update={"method": "other"})]))
    assert project.gate("--reference", str(project.reference)) == 1


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
    chosen = ["--methods", "unet", "--datasets", "phantom/polyp", "--seeds", "0"]
    chosen += ["--set", f"runs_dir={project.root}/runs", "--set", "measure.batch_sizes=[1]"]
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
    project.make(**timed(2.4, seed=1))
    done = session("--benchmark-only")
    done.assert_outcomes(passed=3)
    assert done.ret == 1
    done.stdout.fnmatch_lines("*predict_batch1*FAIL: 2.4* x the reference*")


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


def test_a_checkout_that_no_results_speak_of_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    project.make()
    judge = ["--reference", str(project.reference)]
    write_reference(project.reference, Reference(profile="smoke", runs=[run_facts(project.run)]))
    assert project.gate(*judge) == 0
    for state in ((COMMIT, True), (COMMIT, None), (None, None)):
        monkeypatch.setattr("bench.gate.command.checkout", lambda state=state: state)
        capsys.readouterr()
        assert project.gate(*judge) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "uncommitted changes or no revision" in line
    assert project.gate(*judge, "gate.without=[revision]") == 0
