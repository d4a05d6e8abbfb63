"""Interleaved timing, checked against a clock that the calls themselves move."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.measure import interleaved
from bench.measure.interleaved import InterleavedResult, measure_interleaved


class Clock:
    """Time passes only inside calls."""

    def __init__(self) -> None:
        self.now, self.events, self.slowness = 0.0, [], 1.0

    def call(self, name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.events.append(name)
            self.now += seconds * self.slowness

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(interleaved.time, "perf_counter", lambda: made.now)
    return made


def test_every_round_times_every_call_once_and_turns_the_order(clock: Clock) -> None:
    calls = {name: clock.call(name, seconds) for name, seconds in (("a", 6.0), ("b", 2.0), ("c", 1.0))}
    timed = measure_interleaved(calls, rounds=3, warmup=1, synchronize=lambda: clock.events.append("|"))
    assert "".join(clock.events) == "abc" + "|a||b||c|" + "|b||c||a|" + "|c||a||b|"
    assert timed.seconds == {"a": [6.0] * 3, "b": [2.0] * 3, "c": [1.0] * 3}
    assert timed.speedup("b", over="a") == (ratio := timed.speedup("b", over="a"))
    assert (ratio.value, ratio.low, ratio.high) == (3.0, 3.0, 3.0)


def test_what_prepares_a_call_is_done_before_it_and_not_timed(clock: Clock) -> None:
    calls = {"a": clock.call("a", 2.0), "b": clock.call("b", 1.0)}
    prepare = {"a": clock.call("p", 50.0)}
    timed = measure_interleaved(calls, rounds=2, warmup=0, synchronize=lambda: None, prepare=prepare)
    assert "".join(clock.events) == "pab" + "bpa"
    assert timed.seconds == {"a": [2.0, 2.0], "b": [1.0, 1.0]}


def test_ratio_counts_samples(clock: Clock) -> None:
    calls = {"loop": clock.call("loop", 1.0), "batch": clock.call("batch", 4.0)}
    timed = measure_interleaved(calls, rounds=2, warmup=0, synchronize=lambda: None, samples={"batch": 8})
    assert timed.per_sample("batch") == 0.5
    assert timed.speedup("batch", over="loop").value == 2.0


def test_a_machine_that_slows_down_for_everybody_moves_no_ratio(clock: Clock) -> None:
    def slower() -> None:
        clock.slowness *= 1.2 if clock.events[-2:] == ["a", "b"] else 1.0

    calls = {"a": clock.call("a", 3.0), "b": clock.call("b", 2.0)}
    timed = measure_interleaved(calls, rounds=40, warmup=0, synchronize=slower)
    assert timed.seconds["a"][-1] > 10 * timed.seconds["a"][0]
    ratio = timed.speedup("b", over="a")
    assert ratio.low <= 1.5 <= ratio.high
    assert ratio.value == pytest.approx(1.5, rel=0.25)


def test_interval_is_narrow_where_rounds_agree_and_wide_where_they_do_not() -> None:
    steady = InterleavedResult({"a": [2.0, 2.1] * 10, "b": [1.0] * 20}, {"a": 1, "b": 1}).speedup("b", over="a")
    wild = InterleavedResult({"a": [1.0, 8.0] * 10, "b": [1.0] * 20}, {"a": 1, "b": 1}).speedup("b", over="a")
    assert 2.0 <= steady.low <= steady.value <= steady.high <= 2.1
    assert wild.high - wild.low > 10 * (steady.high - steady.low)
