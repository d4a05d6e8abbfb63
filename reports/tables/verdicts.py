"""Verdicts: what the paper claims of SDSeg, number by number, and what the runs at hand say of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from reports.contest import MARGIN, METRIC, Contest, contests
from reports.frame import Frame
from reports.provenance import device, threads
from reports.published import Published, numbers_of_paper, same_dataset
from reports.rows import Row, plain
from reports.table import Column, Table
from reports.variants import printed_as

CLAIMANT = "SDSeg"
ONE_STEP_BESIDE = "SDSeg (DDIM)"
_SPEEDS = ("samples_per_s", "single_samples_per_s")
HOLDS, CONTRADICTED, NOT_SHOWN, NOT_MEASURED = "holds here", "contradicted here", "not shown here", "not measured"
COLUMNS = [
    *plain(dataset="page"),
    Column("method", "Claim", level="page"),
    *plain(table="page"),
    Column("printed", "Published", level="page"),
    Column("measured", "Measured", level="page"),
    Column("measured_interval", "95 % interval", level="page"),
    *plain(cases="page", verdict="page", because="page"),
]
CAPTION = (
    "Every comparison that the paper prints of its own method on the data sets of these runs. Dice: the paired "
    "difference per case, which holds or is contradicted where the ranking's test and interval agree; one step "
    f"beside ten: not worse by more than {MARGIN:g}. Speed: ratio of single samples per second on one "
    "machine. Stability: on how many of the printed metrics the mean over cases is better. A verdict is about these "
    "runs: tiny networks or miniature data do not judge the paper."
)


class Claim(NamedTuple):
    """One method of the paper said to be better than another: the printed difference, ratio or count."""

    table: str
    dataset: str
    better: str
    other: str
    kind: str  # Dice, speed, stability
    printed: str


def build(frame: Frame) -> Table | None:
    """One row per printed claim on the data sets of the runs; None where the paper's method was not run."""
    rows: list[dict[str, Any]] = []
    for dataset, members in frame.by_dataset():
        named = {name: row for row in reversed(members) if (name := printed_as(row.record))}
        if CLAIMANT not in named:
            continue
        for claim in claims(dataset, frame.ledger):
            rows.append({"dataset": dataset, "method": _words(claim), "table": claim.table, "printed": claim.printed})
            missing = [name for name in (claim.better, claim.other) if name not in named]
            if missing:
                rows[-1] |= {"verdict": NOT_MEASURED, "because": f"no run of {' and '.join(missing)}"}
                continue
            judge = {"Dice": _dice, "speed": _speed, "stability": _stability}[claim.kind]
            rows[-1] |= judge(frame, claim, named[claim.better], named[claim.other])
    if not rows:
        return None
    return Table("verdicts", "Verdicts · What the paper claims, measured here", CAPTION, COLUMNS, rows)


def claims(dataset: str, ledger: list[Published]) -> list[Claim]:
    """What the paper claims on a data set, each once, in the order of its tables."""
    printed = [entry for entry in numbers_of_paper(ledger, "23456") if same_dataset(dataset, entry.dataset)]
    found: dict[tuple[str, str, str], Claim] = {}
    for claim in (*_gains(printed), *_speeds(printed), *_stabilities(printed), *_steps(printed)):
        found.setdefault((claim.better, claim.other, claim.kind), claim)
    return list(found.values())


def _values(printed: list[Published], table: str, *metrics: str) -> dict[str, Published]:
    return {entry.method: entry for entry in printed if entry.table == table and entry.metric in metrics}


def _gains(printed: list[Published]) -> Iterator[Claim]:
    for table in "234":
        values = _values(printed, table, METRIC)
        if (ours := values.pop(CLAIMANT, None)) is not None:
            for name, other in values.items():
                gain = f"{ours.as_measured - other.as_measured:+.3f}"
                yield Claim(table, ours.dataset, CLAIMANT, name, METRIC, gain)


def _speeds(printed: list[Published]) -> Iterator[Claim]:
    values = _values(printed, "4", *_SPEEDS)
    if (ours := values.pop(CLAIMANT, None)) is not None:
        for name, other in values.items():
            yield Claim("4", ours.dataset, CLAIMANT, name, "speed", f"{ours.value / other.value:.1f} times")


def _stabilities(printed: list[Published]) -> Iterator[Claim]:
    names = dict.fromkeys(entry.method for entry in printed if entry.table == "5")
    for name in names:
        if name != CLAIMANT:
            count = len({entry.metric for entry in printed if entry.table == "5" and entry.method == name})
            yield Claim("5", printed[0].dataset, CLAIMANT, name, "stability", f"{count} of {count}")


def _steps(printed: list[Published]) -> Iterator[Claim]:
    """Each row of the ablation is said to be better than the one before; its last row is the method itself."""
    values = _values(printed, "6", METRIC)
    for (name, worse), (_, better) in pairwise(values.items()):
        new = CLAIMANT if better is list(values.values())[-1] else better.method
        gain = f"{better.as_measured - worse.as_measured:+.3f}"
        yield Claim("6", better.dataset, new, name, METRIC, gain)


def _words(claim: Claim) -> str:
    if claim.kind == METRIC and claim.other == ONE_STEP_BESIDE:
        return "one step is no worse than ten, Dice"
    word = {METRIC: "above", "speed": "faster than", "stability": "more stable than"}[claim.kind]
    return f"{claim.better} {word} {claim.other}" + (", Dice" if claim.kind == METRIC else "")


def _dice(frame: Frame, claim: Claim, better: Row, other: Row) -> dict[str, Any]:
    contest = _contest_of(frame, better, other)
    if contest is None:
        return {"verdict": NOT_MEASURED, "because": "not scored on the same cases by the same rules"}
    ahead = contest.methods.index(better.method) < contest.methods.index(other.method)
    pair = (better.method, other.method) if ahead else (other.method, better.method)
    interval, sign = contest.pair(pair).difference, 1 if ahead else -1
    low, high = sorted((sign * interval.low, sign * interval.high))
    gain = sign * interval.estimate
    if claim.other == ONE_STEP_BESIDE:
        verdict = HOLDS if low > -MARGIN else CONTRADICTED if high < -MARGIN else NOT_SHOWN
    elif contest.shown(pair):
        verdict = HOLDS if gain > 0 else CONTRADICTED
    else:
        verdict = NOT_SHOWN
    return {"measured": gain, "measured_interval": (low, high), "cases": interval.n, "verdict": verdict}


def _contest_of(frame: Frame, *rows: Row) -> Contest | None:
    names = {row.method for row in rows}
    of_dataset = (one for one in contests(frame) if one.dataset == rows[0].dataset)
    return next((one for one in of_dataset if names <= set(one.methods) - one.infinite), None)


def _speed(frame: Frame, claim: Claim, better: Row, other: Row) -> dict[str, Any]:
    del frame, claim
    if len({(device(row.record), threads(row.record)) for row in (better, other)}) > 1:
        return {"verdict": NOT_MEASURED, "because": "timed on different machines or threads"}
    speeds = [_single_per_s(row) for row in (better, other)]
    if None in speeds or not speeds[1]:
        return {"verdict": NOT_MEASURED, "because": "not timed; sdseg measure times it"}
    ratio = speeds[0] / speeds[1]  # type: ignore[operator]
    return {"measured": f"{ratio:.1f} times", "verdict": HOLDS if ratio > 1 else CONTRADICTED}


def _single_per_s(row: Row) -> float | None:
    """Single samples per second, before fusion, which is what the paper counts."""
    values = [(one.record.score("samples_per_s"), one.record.score("samples")) for one in row.runs]
    known = [speed * samples for speed, samples in values if speed == speed and samples == samples]
    return sum(known) / len(known) if known else None


def _stability(frame: Frame, claim: Claim, better: Row, other: Row) -> dict[str, Any]:
    printed = [e for e in numbers_of_paper(frame.ledger, ["5"]) if same_dataset(claim.dataset, e.dataset)]
    metrics = [entry.metric for entry in printed if entry.method == claim.other]
    won = known = 0
    for metric in metrics:
        ours, theirs = better.agreement(metric), other.agreement(metric)
        if ours.cases and theirs.cases:
            known += 1
            higher = ours.mean > theirs.mean
            won += higher if better.facts(metric).better == "higher" else ours.mean < theirs.mean
    if not known:
        return {"verdict": NOT_MEASURED, "because": "no repeated draws, or none scored"}
    verdict = HOLDS if won == known else CONTRADICTED if won == 0 else NOT_SHOWN
    because = "" if known == len(metrics) else f"{len(metrics) - known} metrics undefined"
    return {"measured": f"{won} of {known}", "verdict": verdict, "because": because}
