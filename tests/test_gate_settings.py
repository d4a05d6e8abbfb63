"""What is left out of the gate on request, and which settings runs would need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.config import expand
from bench.errors import InputError
from bench.gate import RunFacts, run_facts
from bench.gate.command import gate_settings
from tests import gate_fixtures
from tests.gate_fixtures import failures, made, make_run, shifted, timed, verdict

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


def test_runs_pass_with_exactly_what_they_need(good: RunFacts, tmp_path: Path) -> None:
    now = run_facts(make_run(tmp_path, **shifted("Dice", -0.02, noise=0.001), **timed(1.2, seed=1), mib=640.0))
    judged = verdict(good, now)
    needs = {setting: value for row in judged.rows for setting, value in row.needs.items()}
    assert needs["margins.Dice"] == pytest.approx(0.021, abs=0.001)
    assert 1.15 < needs["slower"] < 1.21 < needs["unsure"] < 1.25
    assert needs["memory"] == pytest.approx(40 / 600)
    for share, passes in ((1.001, True), (0.999, False)):
        settings = {name: value * share for name, value in needs.items() if "." not in name}
        assert verdict(good, now, margins={"Dice": needs["margins.Dice"] * share}, **settings).passed == passes
    lines = judged.needs().splitlines()
    assert any(line.split()[:3:2] == ["gate.memory", "phantom/polyp-unet-seed0"] for line in lines)


def test_what_no_setting_mends_is_counted(good: RunFacts, tmp_path: Path) -> None:
    assert "2 judgements fail whatever the margins" in verdict(good, without_lpips(tmp_path)).needs()
    assert "fail" not in verdict(good, good).needs()


def test_an_undefined_bound_needs_more_than_any_margin(good: RunFacts, tmp_path: Path) -> None:
    one = {"groups": ["one"] * len(good.groups)}
    worse = made(tmp_path, **shifted("Dice", -0.02)).model_copy(update=one)
    assert "inf" in verdict(good.model_copy(update=one), worse).needs()
    assert np.isnan([value for row in verdict(good, good).rows for value in row.needs.values()]).sum() == 0


def test_any_metric_may_have_a_margin() -> None:
    def settings(override: str) -> dict[str, object]:
        return gate_settings(expand(["profile=smoke", "methods=[unet]", override])[0])

    assert settings("gate.margins.HD95=3")["margins"]["HD95"] == 3.0  # type: ignore[index]
    with pytest.raises(InputError, match="did you mean 'HD95'"):
        settings("gate.margins.HD59=3")


def test_another_processor_has_wider_margins(good: RunFacts, tmp_path: Path) -> None:
    elsewhere = gate_fixtures.environment(device={"type": "cpu", "name": "Other CPU"})
    worse = {
        name: made(tmp_path / name, **shifted("Dice", -0.02), **more)
        for name, more in {"here": {}, "elsewhere": elsewhere}.items()
    }
    allowed = {"device": "type", "other_device": 5.0}
    assert not verdict(good, worse["here"], **allowed).passed
    judged = verdict(good, worse["elsewhere"], **allowed)
    assert judged.passed
    assert "gain > -0.05" in judged.table(every=True)
    # what is asked for is the setting, before it is made wider
    (needs,) = (row.needs["margins.Dice"] for row in judged.rows if row.metric == "Dice")
    assert needs == pytest.approx(0.004)


def test_the_same_name_with_other_instructions_is_another_device(good: RunFacts, tmp_path: Path) -> None:
    device = {"type": "cpu", "name": "Example CPU", "version": "6-85-7 AVX2"}
    now = made(tmp_path, **gate_fixtures.environment(device=device))
    assert list(failures(verdict(good, now))) == ["device"]
    assert verdict(good, now, device="type").passed
    cuda = made(tmp_path / "cuda", **gate_fixtures.environment(device={**device, "type": "cuda"}))
    assert not verdict(good, cuda, device="type").passed
