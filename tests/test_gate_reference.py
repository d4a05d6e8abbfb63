"""The gate's reference: written and read back, and refused where it should not be promoted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import InputError
from bench.gate import Reference, RunFacts, read_reference, write_reference
from bench.gate.command import choose_reference
from bench.gate.promotion import judge_candidates
from tests import gate_fixtures
from tests.gate_fixtures import BENCHMARKS, COMMIT, SETTINGS, rounds

good = gate_fixtures.good

# --- the file ---------------------------------------------------------------------------------------------


def test_a_reference_comes_back_as_it_was_written(good: RunFacts, tmp_path: Path) -> None:
    reference = Reference(profile="smoke", runs=[good])
    write_reference(tmp_path / "reference.json", reference)
    text = (tmp_path / "reference.json").read_text()
    assert read_reference(tmp_path / "reference.json") == reference.sealed()
    assert max(len(line) for line in text.splitlines()) > 100  # a list is one line
    assert json.loads(text)["runs"][0]["accuracy"]["Dice"]["values"][-1] is None


def with_values(*values: float) -> Callable[[Any], Any]:
    def change(content: Any) -> Any:
        content["runs"][0]["accuracy"]["Dice"]["values"] = values
        return content

    return change


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another kind of file": (lambda r: {}, "profile"),
    "no run": (lambda r: {**r, "runs": []}, "runs"),
    "edited by hand": (lambda r: {**r, "profile": "cpu"}, "was changed after it was written"),
    "another schema": (lambda r: {**r, "schema_version": 99, "digest": ""}, "schema 99"),
    "a run twice": (lambda r: {**r, "runs": r["runs"] * 2, "digest": ""}, "twice"),
    "a value for one case": (with_values(1.0), r"not a reference \(runs\.0"),
    "too few values": (with_values(*[0.5] * 10), r"not a reference \(runs\.0"),
    "infinite values": (with_values(*[float("inf")] * 24), r"not a reference \(runs\.0"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_bad_reference_is_one_line(what: str, good: RunFacts, tmp_path: Path) -> None:
    path, (change, message) = tmp_path / "reference.json", REFUSED[what]
    write_reference(path, Reference(profile="smoke", runs=[good]))
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=message) as caught:
        read_reference(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_reference_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"reference\.json.*make one with sdseg gate --promote"):
        read_reference(tmp_path / "reference.json")
    (tmp_path / "reference.json").write_text("not json")
    with pytest.raises(InputError, match="not a reference"):
        read_reference(tmp_path / "reference.json")


def test_the_default_file_is_named_by_profile_and_device() -> None:
    path = choose_reference(None, ["methods=[unet]", "profile=cpu"])
    assert path.parent.name == "references"
    assert path.name in ("cpu-cpu.json", "cpu-cuda.json")


# --- promotion --------------------------------------------------------------------------------------------


def refusals(runs: dict[Any, Any], commit: str | None = COMMIT, dirty: bool | None = False) -> list[str]:
    rows = judge_candidates(runs, SETTINGS, commit, dirty)
    return [f"{row.run} {row.metric}: {row.reason}" for row in rows if not row.passed]


def test_a_clean_whole_run_may_be_promoted(good: RunFacts) -> None:
    assert refusals({good.key: good}) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dirty": True}, "dirty or unknown tree"),
        ({"dirty": None}, "dirty or unknown tree"),
        ({"commit": "fedcba98"}, "revision: results of another revision: run again, into another runs_dir"),
        ({"revisions": []}, "results of another revision"),
        ({"revisions": [COMMIT + "+changes"]}, "made with uncommitted changes"),
        ({"code": "other"}, "results of other code than is installed"),
        ({"scoring": ""}, "scoring: unknown"),
        ({"threads": None}, "threads: unknown"),
        ({"device": {"type": "cpu", "name": ""}}, "device: unknown"),
        ({"impossible": ["Dice of a is 1.7"]}, "values: Dice of a is 1.7"),
        ({"speed": {"predict_batch1": rounds(count=1)}}, "of 1 and 1 rounds: too few or too noisy to tell"),
        ({"memory": {}, "benchmarks": {**BENCHMARKS, "test_speed[1]": "skipped"}}, "no memory"),
        ({"benchmarks": {**BENCHMARKS, "test_accuracy": "failed"}}, "test_accuracy: benchmark failed"),
        ({"benchmarks": {}}, "no benchmark ran"),
        ({"accuracy": {}}, "no accuracy"),
        ({"stability": {}}, "no stability"),
        ({"speed": {}}, "no speed"),
        ({"memory": {}}, "no memory"),
        ({"memory": {"peak_rss_mib": None}}, "peak_rss_mib: undefined"),
    ],
)
def test_promotion_refuses(change: dict[str, Any], reason: str, good: RunFacts) -> None:
    reasons = refusals({good.key: good.model_copy(update=change)})
    assert [line for line in reasons if reason in line]


def test_promotion_refuses_a_metric_without_a_value(good: RunFacts) -> None:
    nothing = good.accuracy["Dice"].model_copy(update={"values": [None] * len(good.cases)})
    reasons = refusals({good.key: good.model_copy(update={"accuracy": {**good.accuracy, "Dice": nothing}})})
    assert reasons == ["phantom/polyp-unet-seed0 Dice: undefined on every case"]


def test_promotion_refuses_a_dirty_checkout_a_missing_run_and_two_machines(good: RunFacts) -> None:
    for commit, dirty in ((COMMIT, True), (COMMIT, None), (None, False)):
        assert "uncommitted" in refusals({good.key: good}, commit, dirty)[0]
    other = ("phantom/polyp", "sdseg", 0)
    assert refusals({good.key: good, other: "no results"}) == ["phantom/polyp-sdseg-seed0 run: no results"]
    two = good.model_copy(update={"method": "sdseg", "threads": 4})
    assert "more than one threads" in refusals({good.key: good, other: two})[0]


def test_promotion_without_a_run_is_refused() -> None:
    assert "no run: the overrides choose none that applies" in refusals({})[0]
