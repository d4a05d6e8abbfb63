"""What was changed by hand, is impossible or cannot be read fails the gate, and only the run that it belongs to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.gate import Reference, RunFacts, judge, run_facts, write_reference
from bench.gate.command import facts_or_fault
from bench.results.store import RunFolder
from tests.gate_fixtures import (
    COMMIT,
    ENVIRONMENT,
    SETTINGS,
    Project,
    at_case,
    composed_once,
    failures,
    good,
    made,
    make_run,
    project,
    verdict,
)

__all__ = ["composed_once", "good", "project"]


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        ("Dice", 1.7, "Dice of case-003 is 1.7 and 2 more, not within [0, 1]"),
        ("Dice", float("inf"), "Dice of case-003 is inf and 2 more"),
        ("Dice/pairs", 1.01, "Dice/pairs of case-003 is 1.01, not within [0, 1]"),
        ("SSIM/seg", 1.2, "SSIM/seg of case-003 is 1.2, not within [-1, 1]"),
        ("PSNR/seg", -5.0, "PSNR/seg of case-003 is -5, not within [0, inf]"),
    ],
)
def test_impossible_values_fail(tmp_path: Path, good: RunFacts, metric: str, value: float, words: str) -> None:
    now = made(tmp_path, **at_case(metric, "case-003", value))
    assert words in failures(verdict(good, now))["values"]


def test_a_negative_distance_fails(tmp_path: Path, good: RunFacts) -> None:
    change = at_case("IoU", "case-003", -5.0)
    change["scores"]["metric"] = change["scores"]["metric"].replace("IoU", "HD95")
    now = made(tmp_path, **change)
    assert "HD95 of case-003 is -5" in failures(verdict(good, now))["values"]


def test_a_folder_without_its_revisions_fails(tmp_path: Path, good: RunFacts) -> None:
    path = make_run(tmp_path)
    (path / "revisions.json").unlink()
    assert "unknown" in next(row.now for row in verdict(good, run_facts(path)).rows if row.metric == "revision")


@pytest.mark.parametrize("step", ["fit", "predict"])
def test_other_thread_counts_of_a_step_fail(tmp_path: Path, good: RunFacts, step: str) -> None:
    counted = good.model_copy(update={"step_threads": {"fit": [2], "predict": [2]}})
    path = make_run(tmp_path)
    for name in ("fit", "predict"):
        RunFolder(path).note_threads(name, 2)
    assert verdict(counted, run_facts(path)).passed
    RunFolder(path).note_threads(step, 1)
    assert list(failures(verdict(counted, run_facts(path)))) == [f"threads of {step}"]
    (path / "threads.json").unlink()
    assert list(failures(verdict(counted, run_facts(path)))) == ["threads of fit", "threads of predict"]
    assert verdict(good, run_facts(path)).passed  # a reference that does not know them


def test_a_reference_without_digest_judges_with_a_note(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.make()
    write_reference(project.reference, Reference(profile="smoke", runs=[run_facts(project.run)]))
    assert project.gate("--reference", str(project.reference)) == 0
    assert "digest" not in capsys.readouterr().out
    content = json.loads(project.reference.read_text())
    del content["digest"]
    project.reference.write_text(json.dumps(content))
    assert project.gate("--reference", str(project.reference)) == 0
    assert "note: the reference has no digest" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("record.json", "{"),
        ("scores.parquet", "PAR1"),
        ("revisions.json", '["0123'),
        ("revisions.json", '{"a": 1}'),
        ("threads.json", "["),
    ],
)
def test_a_broken_file_fails_its_run_alone(tmp_path: Path, good: RunFacts, name: str, content: str) -> None:
    broken = make_run(tmp_path)
    (broken / name).write_text(content)
    facts = facts_or_fault(broken)
    assert isinstance(facts, str)
    assert facts.startswith(str(broken / name))
    assert "\n" not in facts
    other = good.model_copy(update={"seed": 1})
    runs = {good.key: facts, other.key: other}
    judged = judge(Reference(profile="smoke", runs=[good, other]), runs, SETTINGS, COMMIT)
    assert {row.run for row in judged.rows if not row.passed} == {"phantom/polyp-unet-seed0"}


def test_odd_content_of_a_record_fails_its_run_alone(tmp_path: Path) -> None:
    path = make_run(tmp_path, environment={**ENVIRONMENT, "git": "0123"})
    facts = facts_or_fault(path)
    assert isinstance(facts, str)
    assert facts.startswith(f"{path}: cannot be judged")
