"""What does the noise buy? Every diffusion method beside its controls: the same training with another input."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from bench.stats import Comparison, case_table, compare, holm
from reports.frame import Frame
from reports.rows import Row, means, plain
from reports.summary import reliability_notes
from reports.table import Column, Table
from reports.variants import flag, settings_of

METRIC = "Dice"
FULL = "full"
CONTROLS = ("random", "shuffled", "none")
_ORDER = (FULL, *CONTROLS)
_OPTIONS = "method.options."
_ASIDE = {f"{_OPTIONS}control", f"{_OPTIONS}prediction", "device", "threads", "draws"}
# How SDSeg spells that there is no diffusion, where no control says so.
_STILL = {f"{_OPTIONS}noise": ("zeros", "gaussian"), f"{_OPTIONS}timesteps": ("last", "uniform")}
_RANKED = ("comparison", "convention", "contest")
COLUMNS = [
    *plain(dataset="terminal", method="terminal", control="terminal", prediction="terminal"),
    *means(METRIC, within=_RANKED, sd=None, interval="terminal"),
    Column("difference", "To full", digits=3),
    Column("difference_interval", "95 % interval", digits=3),
    Column("p", "p (Holm)", level="page"),
    Column("agreement", "Dice of draws", better="higher", digits=4, within=_RANKED),
    Column("agreement_interval", "95 % interval of draws", digits=4, level="page"),
    *plain(METRIC, cases="terminal", undefined="page"),
    *plain(draws="page", seeds="terminal", convention="page", profile="csv"),
]
CAPTION = (
    "Runs that differ in nothing but what the network saw in training in place of the noised mask of its own case. "
    "Full: that mask. Random: noise that no mask has touched. Shuffled: the noised mask of another case of the batch. "
    "None: no diffusion, zeros at a constant time. All are trained towards the clean mask; where the method itself "
    "predicts something else, that row is shown too. To full: paired difference in Dice per case from the full row of "
    "the same prediction, 95 % interval, and sign-flip p after Holm over a method's rows. Dice of draws: agreement of "
    "repeated draws of a case, as in Table 5. Means, intervals and seeds as in Table 2."
)


class Member(NamedTuple):
    """A row with its control and what its network predicts."""

    control: str
    prediction: str
    row: Row


def build(frame: Frame) -> Table | None:
    """Every method with a control that was run, by data set; None where there is none."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    small = []
    for number, ((dataset, _), members) in enumerate(sorted(_contests(frame).items())):
        shown, said = _rows(members)
        rows += [row | {"contest": number} for row in shown]
        notes += [f"{dataset}: {line}" for line in said]
        small += [(_name(member), member.row.summary(METRIC)) for member in members]
    if not rows:
        return None
    notes = reliability_notes(small) + list(dict.fromkeys(notes))
    return Table("noise", "What does the noise buy?", CAPTION, COLUMNS, rows, notes)


def member_of(row: Row) -> tuple[Member, str]:
    """A row as a member, and all that members of one method share, as text."""
    settings = settings_of(row.record)
    control = settings.get(f"{_OPTIONS}control", FULL)
    if all(settings.get(key) == still for key, (still, _) in _STILL.items()):
        control = "none"
        settings |= {key: usual for key, (_, usual) in _STILL.items()}
    options = (row.record.config.get("method") or {}).get("options") or {}
    prediction = str(options.get("prediction") or "eps") if "prediction" in options else ""
    shared = {key: value for key, value in settings.items() if key not in _ASIDE}
    return Member(control, prediction, row), json.dumps(shared, sort_keys=True)


def _contests(frame: Frame) -> dict[tuple[str, str], list[Member]]:
    groups: dict[tuple[str, str], list[Member]] = {}
    for row in frame.rows:
        member, shared = member_of(row)
        groups.setdefault((row.dataset, shared), []).append(member)
    return {
        key: sorted(members, key=lambda m: (_ORDER.index(m.control), m.prediction != _wanted(members), m.prediction))
        for key, members in groups.items()
        if any(member.control != FULL for member in members) and len(members) > 1
    }


def _wanted(members: list[Member]) -> str:
    """What the networks of the controls predict."""
    return next((member.prediction for member in members if member.control != FULL), "")


def _rows(members: list[Member]) -> tuple[list[dict[str, Any]], list[str]]:
    """The cells of a method's rows, by convention, and what needs saying."""
    cells: list[dict[str, Any]] = []
    notes: list[str] = []
    for convention in sorted({name for member in members for name in member.row.conventions(METRIC)}):
        scored = [(m, one) for m in members for one in m.row.by_convention([METRIC]) if one.convention == convention]
        full = next((one for m, one in scored if (m.control, m.prediction) == (FULL, _wanted(members))), None)
        if full is None:
            notes.append(f"{members[0].row.record.method}: full was not run with what its controls predict.")
        pairs = [None if full is None or one is full else _against(m, one, full, notes) for m, one in scored]
        adjusted = iter(holm([pair.p for pair in pairs if pair]))
        for (member, one), pair in zip(scored, pairs, strict=True):
            cells.append(_cells(member, one) | (_difference(pair, next(adjusted)) if pair else {}))
    return cells, notes


def _against(member: Member, row: Row, full: Row, notes: list[str]) -> Comparison | None:
    """A row compared with the full method, where both were scored on the same cases."""
    values = {
        name: {str(case): value for case, value in one.summary(METRIC).every.items()}
        for name, one in (("one", row), (FULL, full))
    }
    if values["one"].keys() != values[FULL].keys():
        notes.append(f"{_name(member)} was scored on other cases than full and is not compared.")
        return None
    groups = {str(case): str(group) for run in full.scores for case, group in run.groups.items()}
    return compare(case_table(values, groups), "one", FULL)


def _cells(member: Member, row: Row) -> dict[str, Any]:
    name = member.row.record.method + flag(member.row.record)
    agreement = row.agreement("Dice/pairs")
    return row.fill(COLUMNS) | {
        "method": name,
        "control": member.control,
        "prediction": member.prediction,
        "agreement": agreement.mean if agreement.cases else None,
        "agreement_interval": agreement.interval,
    }


def _difference(pair: Comparison, p: float) -> dict[str, Any]:
    interval = pair.difference
    return {"difference": interval.estimate, "difference_interval": (interval.low, interval.high), "p": p}


def _name(member: Member) -> str:
    words = f"{member.row.record.method}, {member.control}"
    return f"{words} ({member.prediction})" if member.prediction else words
