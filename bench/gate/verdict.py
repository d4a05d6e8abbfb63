"""The gate: runs against a committed reference, closed by default, with the reason for every failure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tabulate import tabulate

from bench.gate.reference import Key, Reference, RunFacts, key_name
from bench.gate.rules import Row, failed, judge_memory, judge_speed, judge_values

KINDS = ("accuracy", "stability", "speed", "memory")  # fields of RunFacts
REVISION = "revision"
# Benchmarks that measure a kind and nothing else that is judged: they need not run where it is left out.
_MEASURES = {"test_speed": "speed", "test_footprint": "memory"}
_HEADERS = ("run", "metric", "reference", "now", "allowed", "verdict")


class NotRun(str):
    """Why a run has no results, which matters only where the reference has some."""

    __slots__ = ()


@dataclass(frozen=True)
class Verdict:
    """Every judgement, in order; passed where there is one and none failed. `left_out`: not judged, as asked."""

    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the gate opens."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def table(self, every: bool = False) -> str:
        """The rows that failed, and of each run and kind the one closest to its limit; all of them with `every`."""
        shown = [row for row in self.rows if every or not row.passed or row is self._closest(row)]
        cells = [(row.run, row.metric, row.reference, row.now, row.allowed, row.verdict) for row in shown]
        count = len(self.rows) - sum(row.passed for row in self.rows)
        word = "passed" if self.passed else "FAILED"
        table = tabulate(cells, _HEADERS, tablefmt="simple", disable_numparse=True)
        hidden = f", {len(self.rows) - len(shown)} passed ones not shown" if len(shown) < len(self.rows) else ""
        asked = f"\nnot judged (gate.without): {', '.join(self.left_out)}" if self.left_out else ""
        notes = "".join(f"\nnote: {note}" for note in self.notes)
        return f"{table}\ngate {word}: {len(self.rows)} judgements, {count} failed{hidden}{asked}{notes}"

    def needs(self) -> str:
        """Every setting of the gate with the smallest value under which these runs pass, and the run that asks for it.

        Of runs that changed nothing this is the noise that margins must leave room for.
        """
        largest: dict[str, tuple[float, Row]] = {}
        for row in self.rows:
            for setting, value in row.needs.items():
                wanted = math.inf if math.isnan(value) else value  # no margin admits an undefined bound
                if setting not in largest or wanted > largest[setting][0]:
                    largest[setting] = (wanted, row)
        cells = [(f"gate.{setting}", f"{value:.4g}", row.run, row.metric) for setting, (value, row) in largest.items()]
        never = sum(not row.passed and not row.needs for row in self.rows)
        also = f"\n{never} judgements fail whatever the margins: sdseg gate shows them" if never else ""
        return tabulate(cells, ("setting", "needs", "by", "metric"), tablefmt="simple", disable_numparse=True) + also

    def _closest(self, row: Row) -> Row:
        same = [other for other in self.rows if (other.run, other.kind) == (row.run, row.kind) and other.passed]
        return min(same, key=lambda other: other.room)


def judge(
    reference: Reference,
    runs: Mapping[Key, RunFacts | str],
    settings: dict[str, Any],
    commit: str | None,
) -> Verdict:
    """Judge runs, or the reasons why they are not there, by the section `gate` of the configuration.

    `commit` is the checkout's: results of another revision say nothing about this one.
    """
    rows: list[Row] = []
    expected = {run.key: run for run in reference.runs}
    for key in [*expected, *(key for key in runs if key not in expected)]:
        now = runs.get(key, "did not run")
        if isinstance(now, NotRun) and key not in expected:
            continue
        name = key_name(key)
        if isinstance(now, str):
            rows.append(failed(now, "there", "missing").at(name, "run", "run"))
        elif key not in expected:
            rows.append(failed("new: not in the reference", "missing", "there").at(name, "run", "run"))
        else:
            rows += _judge_run(name, expected[key], now, settings, commit)
    without = set(settings["without"])
    left_out = [row for row in rows if _names(row) & without]
    names = dict.fromkeys(row.kind if row.kind in without else row.metric for row in left_out)
    idle = sorted(without - {REVISION}.union(*map(_names, rows)))
    return Verdict(
        tuple(row for row in rows if row not in left_out),
        (*names, *(f"{name} (which nothing is called)" for name in idle)),
    )


def _names(row: Row) -> set[str]:
    """By what a row may be left out: its kind, its name, or that on all maps (LPIPS for LPIPS/seg and /score)."""
    name = row.metric.split()[0]
    if row.kind in KINDS:
        return {row.kind, name, name.removesuffix("/seg").removesuffix("/score")}
    return {name} & {REVISION}


def _judge_run(name: str, old: RunFacts, new: RunFacts, settings: dict[str, Any], commit: str | None) -> Iterator[Row]:
    faults = [*_identity(old, new, settings, commit), *_benchmarks(old, new, settings)]
    for what, judged in faults:
        yield judged.at(name, "run", what)
    if not faults:
        shown = f"{old.hash[:8]}, {len(old.cases)} cases"
        yield Row(shown, shown, "equal", True).at(name, "run", "identity")
    if not (old.accuracy and new.accuracy):
        yield failed("nothing to judge").at(name, "accuracy", "accuracy")
    settings = _for_device(old, new, settings)
    same_cases = (old.cases, old.groups) == (new.cases, new.groups)
    rules: dict[str, Callable[..., Row]] = {"speed": judge_speed, "memory": judge_memory}
    for kind in KINDS:
        before, now = getattr(old, kind), getattr(new, kind)
        for metric in [*before, *(metric for metric in now if metric not in before)]:
            if metric not in now:
                judged = failed("missing", "there", "missing")
            elif metric not in before:
                judged = failed("new: not in the reference", "missing", "there")
            elif kind in rules:
                judged = rules[kind](before[metric], now[metric], settings)
            elif same_cases:
                judged = judge_values(before[metric], now[metric], new, settings)
            else:
                judged = failed("not comparable: other cases")
            yield judged.at(name, kind, metric)


def _for_device(old: RunFacts, new: RunFacts, settings: dict[str, Any]) -> dict[str, Any]:
    """Wider margins of accuracy and stability where another device of the type rounds otherwise."""
    factor = settings["other_device"] if old.device != new.device else 1.0
    wider: dict[str, Any] = {key: factor * settings[key] for key in ("margin", "relative_margin")}
    wider["margins"] = {name: factor * value for name, value in settings["margins"].items()}
    return {**settings, **wider, "other_device": factor}


def _identity(old: RunFacts, new: RunFacts, settings: dict[str, Any], commit: str | None) -> Iterator[tuple[str, Row]]:
    """What keeps two runs from being compared."""
    facts: dict[str, Callable[[RunFacts], Any]] = {
        "profile": lambda run: run.profile,
        "protocol": lambda run: run.protocol,
        "draws": lambda run: run.draws,
        "data": lambda run: run.data,
        "split": lambda run: run.split,
        "scoring": lambda run: run.scoring,
        "device": lambda run: _device(run, settings["device"]),
        "threads": lambda run: run.threads,
    }
    if old.of_masks:  # where they were scored changes no mask
        facts = {what: of for what, of in facts.items() if what not in ("device", "threads")}
    words = {"scoring": "other metrics", "threads": "another thread count", "draws": "another number of draws"}
    for what, of in facts.items():
        if what == "scoring" and (old.protocol, old.draws) != (new.protocol, new.draws):
            continue  # it follows from these
        if of(old) != of(new) or of(old) in ("", None):
            reason = words.get(what, f"another {what}") if of(old) != of(new) else "unknown"
            yield what, failed(reason, _short(of(old)), _short(of(new)))
    if (old.data, old.split) == (new.data, new.split) and old.hash != new.hash:
        yield "configuration", failed("another configuration", old.hash[:8], new.hash[:8])
    if (old.cases, old.groups) != (new.cases, new.groups):
        differ = sorted(set(old.cases) ^ set(new.cases))
        what = f"case {differ[0]} is in one of them only" if differ else "other groups"
        yield "cases", failed(what, str(len(old.cases)), str(len(new.cases)))
    for step in old.step_threads:
        if old.step_threads[step] != new.step_threads.get(step):
            counts = (", ".join(map(str, run.step_threads.get(step, ["unknown"]))) for run in (old, new))
            yield f"threads of {step}", failed(f"{step} used other numbers of threads", *counts)
    for line in new.impossible:
        yield "values", failed(f"impossible value: {line}")
    if new.code == "other":
        yield "code", failed(f"results of other code than is installed: {new.again}", "installed", "other")
    if not old.of_masks:
        yield from _revision(old, new, commit)


def _revision(old: RunFacts, new: RunFacts, commit: str | None) -> Iterator[tuple[str, Row]]:
    if old.dirty is not False:
        yield "reference", failed("made from a dirty or unknown tree: promote a clean run", str(old.commit)[:8])
    scored = str(new.commit) + ("" if new.dirty is False else "+changes")
    made = list(dict.fromkeys([*new.revisions, scored])) if new.revisions else ["unknown"]
    if made != [str(commit)]:
        changes = any(one.endswith("+changes") for one in made)
        reason = "made with uncommitted changes: commit, and" if changes else "results of another revision:"
        shown = ", ".join(one.replace(one.partition("+")[0], one[:8], 1) for one in made)
        yield REVISION, failed(f"{reason} run again, into another runs_dir", f"checkout {str(commit)[:8]}", shown)


def _short(value: Any) -> str:
    return value[:8] if isinstance(value, str) and len(value) == 64 else str(value)


def _device(run: RunFacts, which: Literal["name", "type"]) -> str:
    """What two devices must agree in; empty where it is not known."""
    if which == "type" or not run.device.get("name"):
        return run.device.get("type", "") if which == "type" else ""
    return ", ".join(filter(None, run.device.values()))


def _benchmarks(old: RunFacts, new: RunFacts, settings: dict[str, Any]) -> Iterator[tuple[str, Row]]:
    for name, outcome in old.benchmarks.items():
        now = new.benchmarks.get(name, "did not run")
        if now == "did not run" and _MEASURES.get(name.partition("[")[0]) in settings["without"]:
            continue
        if now != outcome or now == "failed":
            yield name, failed(f"benchmark {now}", outcome, now)
    for name, now in new.benchmarks.items():
        if now == "failed" and name not in old.benchmarks:
            yield name, failed("benchmark failed", "missing", now)
