"""What is left out of the gate on request, which settings runs would need, and what counts on another processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.config import expand
from bench.errors import InputError
from bench.gate import RunFacts, run_facts
from bench.gate.command import gate_settings
from bench.gate.reference import Trajectory
from bench.gate.trajectory import judge_trajectory
from tests import gate_fixtures
from tests.gate_fixtures import changed, failures, made, make_run, shifted, timed, verdict

composed_once, good = gate_fixtures.composed_once, gate_fixtures.good


def without_lpips(folder: Path) -> RunFacts:
    found = made(folder)
    kept = {name: values for name, values in found.stability.items() if not name.startswith("LPIPS")}
    assert len(kept) == len(found.stability) - 2
    return found.model_copy(update={"stability": kept})


def test_a_missing_metric_passes_only_where_it_was_left_out(good: RunFacts, tmp_path: Path) -> None:
    now = without_lpips(tmp_path)
    assert set(failures(verdict(good, now))) == {"LPIPS/seg", "LPIPS/score"}
    judged = verdict(good, now, without=["LPIPS"])
    assert judged.passed
    assert judged.table().endswith("not judged (gate.without): LPIPS/seg, LPIPS/score")
    assert not verdict(good, now, without=["SSIM"]).passed


def test_a_metric_left_out_takes_nothing_else_with_it(good: RunFacts, tmp_path: Path) -> None:
    worse = made(tmp_path, **shifted("Dice/pairs", -0.1))
    assert not verdict(good, worse, without=["Dice"]).passed
    assert verdict(good, worse, without=["Dice/pairs"]).passed
    everything = verdict(good, good)
    left = verdict(good, good, without=["Dice"])
    assert {row.metric for row in everything.rows} - {row.metric for row in left.rows} == {"Dice"}


def test_a_kind_may_be_left_out(good: RunFacts, tmp_path: Path) -> None:
    slow = made(tmp_path, **timed(2.0), mib=900.0)
    assert not verdict(good, slow, without=["speed"]).passed
    judged = verdict(good, slow, without=["speed", "memory"])
    assert judged.passed
    assert judged.left_out == ("speed", "memory")


def test_leaving_everything_out_is_no_pass(good: RunFacts) -> None:
    other = good.model_copy(update={"hash": "b" * 64})
    assert not verdict(good, other, without=["accuracy", "stability", "speed", "memory"]).passed


def test_runs_pass_with_what_they_need_and_not_with_less(good: RunFacts, tmp_path: Path) -> None:
    now = run_facts(make_run(tmp_path, **shifted("Dice", -0.02, noise=0.001), **timed(1.3, seed=1), mib=640.0))
    judged = verdict(good, now)
    needs = dict(row.needs.split("=") for row in judged.rows if row.needs)
    assert float(needs["margins.Dice"]) == pytest.approx(0.021, abs=0.001)
    assert float(needs["drift"]) == pytest.approx(1.3, abs=0.02)
    assert float(needs["memory"]) == pytest.approx(40 / 600, rel=0.01)
    assert all(needed in judged.table(every=True) for needed in needs.values())
    for share, passes in ((1.0, True), (0.99, False)):
        settings = {name: float(value) * share for name, value in needs.items() if "." not in name}
        margins = {"Dice": float(needs["margins.Dice"]) * share}
        assert verdict(good, now, margins=margins, **settings).passed == passes


def test_an_undefined_bound_needs_more_than_any_margin(good: RunFacts, tmp_path: Path) -> None:
    one = {"groups": ["one"] * len(good.groups)}
    worse = made(tmp_path, **shifted("Dice", -0.02)).model_copy(update=one)
    (row,) = (row for row in verdict(good.model_copy(update=one), worse).rows if row.metric == "Dice")
    assert (row.passed, row.needs) == (False, "")


def test_any_metric_may_have_a_margin() -> None:
    def settings(override: str) -> dict[str, object]:
        return gate_settings(expand(["profile=smoke", "methods=[unet]", override])[0])

    assert settings("gate.margins.HD95=3")["margins"]["HD95"] == 3.0  # type: ignore[index]
    with pytest.raises(InputError, match="did you mean 'HD95'"):
        settings("gate.margins.HD59=3")


TRAJECTORY = Trajectory(losses=[1.0, 0.5], norms=[2.0, 1.0], scores=[0.25] * 16, foreground=0.1)


def test_on_another_processor_values_are_there_and_the_beginning_of_the_training_counts(
    good: RunFacts, tmp_path: Path
) -> None:
    device = {"type": "cpu", "name": "Example CPU", "version": "6-85-7 AVX2"}  # the same name, other instructions
    elsewhere = gate_fixtures.environment(device=device)
    now = made(tmp_path / "now", **shifted("Dice", -0.3), **elsewhere, **timed(9.0))
    assert "--against" in failures(verdict(good, now))["device"]
    known = good.model_copy(update={"trajectory": TRAJECTORY})
    assert verdict(known, now).passed
    assert list(failures(verdict(known, now, without=["training"]))) == ["device"]
    less = changed(lambda frame: frame[frame["metric"] != "IoU"])
    assert list(failures(verdict(known, made(tmp_path / "less", **less, **elsewhere)))) == ["IoU"]
    cuda = made(tmp_path / "cuda", **gate_fixtures.environment(device={**device, "type": "cuda"}))
    assert list(failures(verdict(known, cuda))) == ["device"]


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({}, []),
        ({"losses": [1.0, 0.50005]}, []),
        ({"losses": [1.0, 0.5005]}, ["losses"]),
        ({"losses": [1.01, 0.501]}, ["losses"]),
        ({"losses": [1.0]}, ["losses"]),
        ({"norms": [2.6, 1.0]}, ["norms"]),
        ({"scores": [0.253] * 16}, ["scores"]),
        ({"foreground": 0.106}, ["foreground"]),
    ],
)
def test_a_training_that_begins_otherwise_fails(change: dict[str, Any], fails: list[str]) -> None:
    rows = list(judge_trajectory("run", TRAJECTORY, TRAJECTORY.model_copy(update=change)))
    assert [row.metric for row in rows] == ["losses", "norms", "scores", "foreground"]
    assert [row.metric for row in rows if not row.passed] == fails
    assert fails == [] or "off by" in rows[0].reason + "".join(row.reason for row in rows)
