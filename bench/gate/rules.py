"""The rules by which a metric passes; whatever cannot be compared fails, with its reason."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.errors import InputError
from bench.gate.reference import RunFacts, Values
from bench.gate.verdict import Row, failed
from bench.record import Timing
from bench.stats import Ratio, case_table, non_inferior, speed_ratio

# Of a metric without a margin of its own: within [0, 1], and of one with a unit as a share of its reference mean.
_MARGIN, _RELATIVE_MARGIN = 0.01, 0.05
_ONE_SIDED_95, _TWO_SIDED_95 = 1.645, 1.960  # standard errors
# Seen less sharply than this, beside what is allowed, a time is not known.
_BLIND = 1.5


def judge_values(old: Values, new: Values, facts: RunFacts, settings: dict[str, Any]) -> Row:
    """Paired non-inferiority over the cases of `facts`, which both runs share."""
    before, now = (np.array([np.nan if v is None else v for v in x.values]) for x in (old, new))
    means = _mean(before), _mean(now)
    if fault := _not_comparable(old, new, before, now, facts):
        return failed(fault, *means)
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
    needs = f"margins.{old.metric}={_up(max(0.0, -bound))}" if math.isfinite(bound) else ""
    return Row(*means, f"gain > {-margin:.3g}", judged.passed, reason, room, needs)


def _not_comparable(old: Values, new: Values, before: np.ndarray, now: np.ndarray, facts: RunFacts) -> str:
    if (old.better, old.unit) != (new.better, new.unit):
        return f"better {new.better} [{new.unit}], in the reference {old.better} [{old.unit}]"
    lost, gained = np.isnan(now) & ~np.isnan(before), ~np.isnan(now) & np.isnan(before)
    for where, word in ((lost, "newly undefined"), (gained, "newly defined")):
        if where.any():
            return f"{word} on {where.sum()} of {len(now)} cases, first {facts.cases[where.argmax()]}"
    other = [case for case in facts.cases if old.gaps.get(case) != new.gaps.get(case)]
    if not other:
        return ""
    words = (f"{x.gaps.get(other[0], 'all defined')}" for x in (new, old))
    reason = "on {} cases other draws have a value, first {}: {}; in the reference: {}"
    return reason.format(len(other), other[0], *words)


def _margin(old: Values, before: np.ndarray, settings: dict[str, Any]) -> float:
    if old.metric in settings["margins"]:
        return float(settings["margins"][old.metric])
    return _MARGIN if not old.unit else float(_RELATIVE_MARGIN * np.nanmean(np.abs(before)))


def _mean(values: np.ndarray) -> str:
    return "undefined" if np.isnan(values).all() else f"{np.nanmean(values):.4f}"


def _up(value: float) -> str:
    """A number with which a rule passes, in four digits."""
    return f"{value * 1.001 + 1e-6:.4g}"


def judge_ratio(ratio: Ratio, words: tuple[str, str], setting: tuple[str, float], of: str) -> Row:
    """A ratio of times, which fails where it is above what is allowed and its interval lies above 1.

    The width of the interval, at 95 %, says how small a slowdown would have failed in 95 % of cases.
    """
    key, allowed = setting
    said = f"{ratio.value:.2f} x the reference [{ratio.low:.2f}, {ratio.high:.2f}] of {of}"
    error = math.log(ratio.high / ratio.low) / (2 * _TWO_SIDED_95) if ratio.low > 0 else math.inf
    would_see = allowed * math.exp(_ONE_SIDED_95 * error)
    # Written so that an undefined ratio fails.
    known = would_see <= allowed * _BLIND
    passed = known and (ratio.value <= allowed or ratio.low <= 1)
    if not known:
        said += ": too few or too noisy to tell"
    elif passed:
        said += f"; would see {would_see:.2f} x in 95 %"
    needs = f"{key}={_up(max(1.0, ratio.value))}" if known else ""
    return Row(*words, f"{allowed:g} x", passed, said, allowed / ratio.value - 1, needs)


def judge_speed(old: Timing, new: Timing, settings: dict[str, Any]) -> Row:
    """The ratio of seconds, each round divided by the workload's beside it, and its 95 % interval."""
    if old.workload_name != new.workload_name:
        return failed("another reference workload", old.workload_name, new.workload_name)
    try:
        ratio = speed_ratio(_normalised(new), _normalised(old))
    except InputError as error:
        return failed(f"rounds cannot be compared: {error}")
    before, now = (f"{np.median(_normalised(x)):.3g} x workload" for x in (old, new))
    count = f"{len(old.seconds)} and {len(new.seconds)} rounds"
    return judge_ratio(ratio, (before, now), ("drift", settings["drift"]), count)


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
    needs = f"memory={_up(max(0.0, new / old - 1))}"
    return Row(before, current, f"{limit:.1f} MiB", new <= limit, f"{new / old - 1:+.1%}", limit / new - 1, needs)
