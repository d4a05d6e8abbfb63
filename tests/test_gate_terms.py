"""What keeps the gate shut whatever the numbers: results of another revision, unknown terms, unreadable runs."""

from __future__ import annotations

import pytest

from bench.gate import Reference, RunFacts, judge
from tests import gate_fixtures
from tests.gate_fixtures import COMMIT, SETTINGS, failures, verdict

good = gate_fixtures.good


@pytest.mark.parametrize(
    ("revisions", "words"),
    [
        ([], "results of another revision: run again, into another runs_dir"),
        (["fedcba9876543210", COMMIT], "results of another revision"),
        ([COMMIT + "+changes"], "made with uncommitted changes: commit, and run again"),
        ([COMMIT, COMMIT + "+changes"], "made with uncommitted changes"),
    ],
)
def test_results_that_this_revision_did_not_make_alone_fail(good: RunFacts, revisions: list[str], words: str) -> None:
    judged = verdict(good, good.model_copy(update={"revisions": revisions}))
    assert list(failures(judged)) == ["revision"]
    assert words in judged.table()
    asked = verdict(good, good.model_copy(update={"revisions": revisions}), without=["revision", "Dise"])
    assert asked.passed
    assert "not judged (gate.without): revision, Dise (which nothing is called)" in asked.table()


def test_results_of_other_code_fail_whatever_the_revision(good: RunFacts) -> None:
    for code, failed in (("same", []), ("unknown", []), ("other", ["code"])):
        judged = verdict(good, good.model_copy(update={"code": code}), without=["revision", "code"])
        assert list(failures(judged)) == failed


def test_what_is_unknown_or_failed_on_both_sides_fails(good: RunFacts) -> None:
    for change, metric in (
        ({"scoring": ""}, "scoring"),
        ({"data": ""}, "data"),
        ({"split": ""}, "split"),
        ({"device": {"type": "cpu", "name": ""}}, "device"),
        ({"threads": None}, "threads"),
        ({"benchmarks": {**good.benchmarks, "test_accuracy": "failed"}}, "test_accuracy"),
        ({"accuracy": {}, "stability": {}, "speed": {}, "memory": {}}, "accuracy"),
    ):
        both = good.model_copy(update=change)
        assert list(failures(verdict(both, both))) == [metric]


def test_a_new_run_that_cannot_be_read_fails(good: RunFacts) -> None:
    runs = {good.key: good, ("phantom/polyp", "sdseg", 0): "record.json: not a run record"}
    assert "not a run record" in judge(Reference(profile="smoke", runs=[good]), runs, SETTINGS, COMMIT).table()


def test_what_is_left_out_need_not_be_measured(good: RunFacts) -> None:
    unmeasured = {name: how for name, how in good.benchmarks.items() if not name.startswith("test_speed")}
    now = good.model_copy(update={"speed": {}, "benchmarks": unmeasured})
    assert good.benchmarks != unmeasured
    assert not verdict(good, now).passed
    assert verdict(good, now, without=["speed"]).passed
    assert not verdict(good, now, without=["memory"]).passed
    broken = now.model_copy(update={"benchmarks": {**unmeasured, "test_speed[batch_size=1]": "failed"}})
    assert not verdict(good, broken, without=["speed"]).passed
