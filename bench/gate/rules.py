"""One line of the verdict, and the rules by which a metric passes; whatever cannot be compared fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.errors import InputError
from bench.gate.reference import RunFacts, Values
from bench.record import Timing
from bench.stats import case_table, non_inferior, speed_ratio


@dataclass(frozen=True)
class Row:
    """What a rule says of a metric; `room` is the share of the allowance that is left.

    `needs` holds the smallest value of each setting of the section `gate` with which it would pass. Where it stands:
    the run, the kind (`run` for what makes a run comparable) and the metric, which a rule leaves to `at`.
    """

    reference: str
    now: str
    allowed: str
    passed: bool
    reason: str = ""
    room: float = math.inf
    needs: Mapping[str, float] = field(default_factory=dict)
    run: str = ""
    kind: str = ""
    metric: str = ""

    @property
    def verdict(self) -> str:
        """`pass` or `FAIL`, and why."""
        return ("pass" if self.passed else "FAIL") + (f": {self.reason}" if self.reason else "")

    def at(self, run: str, kind: str, metric: str) -> Row:
        """The judgement in its place."""
        return replace(self, run=run, kind=kind, metric=metric)


def failed(reason: str, reference: str = "", now: str = "") -> Row:
    """A verdict without a comparison."""
    return Row(reference, now, "", False, reason)


def judge_values(old: Values, new: Values, facts: RunFacts, settings: dict[str, Any]) -> Row:
    """Paired non-inferiority over the cases of `facts`, which both runs share."""
    before, now = (np.array([np.nan if v is None else v for v in x.values]) for x in (old, new))
    means = _mean(before), _mean(now)
    if (old.better, old.unit) != (new.better, new.unit):
        return failed(f"better {new.better} [{new.unit}], in the reference {old.better} [{old.unit}]", *means)
    lost, gained = np.isnan(now) & ~np.isnan(before), ~np.isnan(now) & np.isnan(before)
    for where, word in ((lost, "newly undefined"), (gained, "newly defined")):
        if where.any():
            return failed(f"{word} on {where.sum()} of {len(now)} cases, first {facts.cases[where.argmax()]}", *means)
    other = [case for case in facts.cases if old.gaps.get(case) != new.gaps.get(case)]
    if other:
        words = (f"{x.gaps.get(other[0], 'all defined')}" for x in (new, old))
        reason = "on {} cases other draws have a value, first {}: {}; in the reference: {}"
        return failed(reason.format(len(other), other[0], *words), *means)
    if np.isnan(now).all():
        return Row(*means, "", True, "undefined on every case, as in the reference")
    if np.array_equal(before, now, equal_nan=True):
        return Row(*means, "", True, "identical")
    if old.better == "none":
        return Row(*means, "", True, "has no better direction")
    changed = now - before if old.better == "higher" else before - now
    if not (changed < 0).any():
        # Few cases that change bring a wide interval, which is no reason to refuse them where all are gains.
        return Row(*means, "", True, f"no case is worse, {np.count_nonzero(changed > 0)} are better")
    margin = _margin(old, before, settings)
    runs = {name: dict(zip(facts.cases, x, strict=True)) for name, x in (("now", now), ("reference", before))}
    table = case_table(runs, dict(zip(facts.cases, facts.groups, strict=True)))
    judged = non_inferior(table, "now", "reference", margin=margin, better=old.better)
    bound, gain = judged.bound, judged.gain
    reason = f"gain {gain.estimate:+.4f}, at least {bound:+.4f}"
    if math.isnan(bound):
        reason = f"no interval with {gain.groups} group{'s' * (gain.groups != 1)}"
    room = (bound + margin) / margin if margin > 0 else 0.0
    # Not max(), which takes an undefined bound for a small one.
    needs = {f"margins.{old.metric}": float(np.maximum(0.0, -bound)) / settings["other_device"]}
    return Row(*means, f"gain > {-margin:.3g}", judged.passed, reason, room, needs)


def _margin(old: Values, before: np.ndarray, settings: dict[str, Any]) -> float:
    if old.metric in settings["margins"]:
        return float(settings["margins"][old.metric])
    if not old.unit:
        return float(settings["margin"])
    return float(settings["relative_margin"] * np.nanmean(np.abs(before)))


def _mean(values: np.ndarray) -> str:
    return "undefined" if np.isnan(values).all() else f"{np.nanmean(values):.4f}"


def judge_speed(old: Timing, new: Timing, settings: dict[str, Any]) -> Row:
    """The ratio of seconds, each round divided by the workload's beside it, and its interval."""
    if old.workload_name != new.workload_name:
        return failed("another reference workload", old.workload_name, new.workload_name)
    try:
        ratio = speed_ratio(_normalised(new), _normalised(old))
    except InputError as error:
        return failed(f"rounds cannot be compared: {error}")
    before, now = (f"{np.median(_normalised(x)):.3g} x workload" for x in (old, new))
    slower, unsure = settings["slower"], settings["unsure"]
    words = f"{ratio.value:.2f} x the reference [{ratio.low:.2f}, {ratio.high:.2f}]"
    # Written so that an undefined bound fails.
    sure, known = ratio.low <= slower, ratio.high <= unsure
    if math.isnan(ratio.low):
        words += ": a single round has no interval"
    elif sure and not known:
        words += ": too noisy to tell"
    room = min(slower / ratio.low, unsure / ratio.high) - 1
    needs = {"slower": float(np.maximum(1.0, ratio.low)), "unsure": float(np.maximum(1.0, ratio.high))}
    return Row(before, now, f"low end {slower:g} x, high end {unsure:g} x", sure and known, words, room, needs)


def _normalised(timing: Timing) -> list[float]:
    if len(timing.seconds) != len(timing.workload):
        raise InputError(f"{len(timing.seconds)} rounds beside {len(timing.workload)} of the workload")
    rounds = zip(timing.seconds, timing.workload, strict=True)
    return [seconds / work if work > 0 else math.nan for seconds, work in rounds]


def judge_memory(old: float | None, new: float | None, settings: dict[str, Any]) -> Row:
    """Peak memory in MiB, which may grow by a share."""
    before, current = ("undefined" if value is None else f"{value:.1f} MiB" for value in (old, new))
    if not (old and new and old > 0 and new > 0):
        return failed("undefined or not above 0", before, current)
    limit = old * (1 + settings["memory"])
    passed = new <= limit
    needs = {"memory": max(0.0, new / old - 1)}
    return Row(before, current, f"{limit:.1f} MiB", passed, f"{new / old - 1:+.1%}", limit / new - 1, needs)
