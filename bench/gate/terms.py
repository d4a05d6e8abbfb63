"""What two runs must share to be compared, and the judgement of all that they were measured by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.gate.reference import Key, Reference, RunFacts, key_name
from bench.gate.rules import judge_memory, judge_speed, judge_values
from bench.gate.verdict import Row, Verdict, failed

VALUES = ("accuracy", "stability")  # fields of RunFacts, like the next ones
COSTS = ("speed", "memory")
KINDS = (*VALUES, *COSTS)
# Judged beside the runs: what a training begins with (`trajectory.py`), and times of two revisions (`against.py`).
TRAINING = "training"
REVISION = "revision"
# Benchmarks that measure a kind and nothing else that is judged: they need not run where it is left out.
_MEASURES = {"test_speed": "speed", "test_footprint": "memory"}
# Facts that a row calls otherwise than by their names.
_WORDS = {
    "scoring": ("scoring", "other metrics"),
    "threads": ("threads", "another thread count"),
    "draws": ("draws", "another number of draws"),
    "device_type": ("device", "another device"),
    "hash": ("configuration", "another configuration"),
}


class NotRun(str):
    """Why a run has no results, which matters only where the reference has some."""

    __slots__ = ()


def judge(
    reference: Reference, runs: Mapping[Key, RunFacts | str], settings: dict[str, Any], commit: str | None
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
            rows += judge_run(name, expected[key], now, settings, commit)
    return leave_out(rows, settings)


def leave_out(rows: list[Row], settings: dict[str, Any], notes: tuple[str, ...] = (), accept: str = "") -> Verdict:
    """The verdict without the rows that `gate.without` names, which it says."""
    without = set(settings["without"])
    left_out = [row for row in rows if _names(row) & without]
    names = dict.fromkeys(row.kind if row.kind in without else row.metric for row in left_out)
    idle = sorted(without - {REVISION, *KINDS, TRAINING}.union(*map(_names, rows)))
    said = (*names, *(f"{name} (which nothing is called)" for name in idle))
    return Verdict(tuple(row for row in rows if row not in left_out), said, notes, accept)


def _names(row: Row) -> set[str]:
    """By what a row may be left out: its kind, its name, or that on all maps (LPIPS for LPIPS/seg and /score)."""
    name = row.metric.split()[0]
    if row.kind in (*KINDS, TRAINING):
        return {row.kind, name, name.removesuffix("/seg").removesuffix("/score")}
    return {name} & {REVISION}


def judge_run(name: str, old: RunFacts, new: RunFacts, settings: dict[str, Any], commit: str | None) -> Iterator[Row]:
    """Terms, values and costs of a run against the reference's.

    On another processor a training ends elsewhere and takes another time.
    """
    faults = [*_terms(old, new, commit), *_benchmarks(old, new, settings)]
    yield from (judged.at(name, "run", what) for what, judged in faults)
    if not faults:
        shown = f"{old.hash[:8]}, {len(old.cases)} cases"
        yield Row(shown, shown, "equal", True).at(name, "run", "identity")
    alike = old.of_masks or old.device == new.device
    if not alike and old.device_type == new.device_type:
        yield _elsewhere(old, new, settings).at(name, "run", "device")
    yield from judge_values_of(name, old, new, settings, alike)
    for kind, rule in (("speed", judge_speed), ("memory", judge_memory)):
        before, now = getattr(old, kind), getattr(new, kind)
        for metric, row in _both(before, now):
            if row is None and alike:
                row = rule(before[metric], now[metric], settings)
            if row is not None:
                yield row.at(name, kind, metric)


def _elsewhere(old: RunFacts, new: RunFacts, settings: dict[str, Any]) -> Row:
    """On another processor a training's beginning is compared, or nothing."""
    if old.trajectory is None or TRAINING in settings["without"]:
        reason = "another processor: make a reference on this one, or judge --against a revision"
        return failed(reason, old.processor, new.processor)
    words = "another processor: of the values is judged that they are there, and how the training begins"
    return Row(old.processor, new.processor, "", True, words)


def judge_values_of(
    name: str, old: RunFacts, new: RunFacts, settings: dict[str, Any], alike: bool = True
) -> Iterator[Row]:
    """Accuracy and stability of a run against another; that each value is there, and how it is where they are alike."""
    if not (old.accuracy and new.accuracy):
        yield failed("nothing to judge").at(name, "accuracy", "accuracy")
    same_cases = (old.cases, old.groups) == (new.cases, new.groups)
    same_masks = bool(old.predictions) and old.predictions == new.predictions
    for kind in VALUES:
        before, now = getattr(old, kind), getattr(new, kind)
        for metric, row in _both(before, now):
            if row is None and not same_cases:
                row = failed("not comparable: other cases")
            elif row is None and same_masks and before[metric] != now[metric]:
                row = failed("the same predictions are scored otherwise")
            elif row is None and alike:
                row = judge_values(before[metric], now[metric], new, settings)
            if row is not None:
                yield row.at(name, kind, metric)


def _both(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Row | None]]:
    """Every metric of the two, with a failure where only one has it."""
    for metric in [*before, *(metric for metric in now if metric not in before)]:
        if metric not in now:
            yield metric, failed("missing", "there", "missing")
        else:
            yield metric, None if metric in before else failed("new: not in the reference", "missing", "there")


def _terms(old: RunFacts, new: RunFacts, commit: str | None) -> Iterator[tuple[str, Row]]:
    """What keeps a run from being compared with the reference's."""
    yield from same_question(old, new)
    yield from _differing(old, new, "profile", *(() if old.of_masks else ("device_type", "threads")))
    # These two follow from the question, which may have failed already.
    if (old.protocol, old.draws) == (new.protocol, new.draws):
        yield from _differing(old, new, "scoring")
    if (old.data, old.split) == (new.data, new.split):
        yield from _differing(old, new, "hash")
    for step in old.step_threads:
        if old.step_threads[step] != new.step_threads.get(step):
            counts = (", ".join(map(str, run.step_threads.get(step, ["unknown"]))) for run in (old, new))
            yield f"threads of {step}", failed(f"{step} used other numbers of threads", *counts)
    if new.code == "other":
        yield "code", failed(f"results of other code than is installed: {new.again}", "installed", "other")
    if not old.of_masks:
        yield from _revision(old, new, commit)


def same_question(old: RunFacts, new: RunFacts) -> Iterator[tuple[str, Row]]:
    """What keeps two runs of whatever revisions from being compared: other data, rules or cases, impossible values."""
    yield from _differing(old, new, "protocol", "draws", "data", "split")
    if (old.cases, old.groups) != (new.cases, new.groups):
        differ = sorted(set(old.cases) ^ set(new.cases))
        what = f"case {differ[0]} is in one of them only" if differ else "other groups"
        yield "cases", failed(what, str(len(old.cases)), str(len(new.cases)))
    for line in new.impossible:
        yield "values", failed(line)


def _differing(old: RunFacts, new: RunFacts, *facts: str) -> Iterator[tuple[str, Row]]:
    """A failure for every fact that differs, or that neither knows."""
    for fact in facts:
        before, now = getattr(old, fact), getattr(new, fact)
        what, words = _WORDS.get(fact, (fact, f"another {fact}"))
        if before != now or before in ("", None):
            yield what, failed(words if before != now else "unknown", _short(before), _short(now))


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
