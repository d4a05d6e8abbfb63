"""A new reference from the runs on disk, refused where they are failed, incomplete or from a dirty tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.gate.reference import Key, RunFacts, key_name
from bench.gate.terms import KINDS

_MEASURED_BY = {"test_stability": "stability", "test_speed": "speed", "test_footprint": "memory"}


def refusals(runs: Mapping[Key, RunFacts | str], commit: str | None, dirty: bool | None) -> list[str]:
    """Every reason not to make a reference of these runs, each one line; none where they may be one."""
    reasons = [] if runs else ["no run: the overrides choose none that applies"]
    whole = [run for run in runs.values() if not isinstance(run, str)]
    of_models = [run for run in whole if not run.of_masks]
    if (commit is None or dirty is not False) and (of_models or not whole):
        reasons.append("the checkout has uncommitted changes or no revision: commit first")
    for key, run in runs.items():
        problems = [run] if isinstance(run, str) else _problems(run, commit)
        reasons += [f"{key_name(key)}: {problem}" for problem in problems]
    for what, of in (("profile", whole), ("device", of_models), ("threads", of_models)):
        if len({str(getattr(run, what)) for run in of}) > 1:
            reasons.append(f"runs of more than one {what}: make all of them in one session")
    return reasons


def _problems(run: RunFacts, commit: str | None) -> Iterator[str]:
    if not run.of_masks:
        yield from _problems_of_models(run, commit)
    elif not run.accuracy:
        yield "no accuracy: score it again with metrics of single draws"
    if run.code == "other":
        yield f"results of other code than is installed: {run.again}"
    for what in ("data", "split", "scoring"):
        if not getattr(run, what):
            yield f"{what} unknown: run again"
    yield from run.impossible
    for name, values in run.accuracy.items():
        if all(value is None for value in values.values):
            yield f"{name} is undefined on every case"


def _problems_of_models(run: RunFacts, commit: str | None) -> Iterator[str]:
    if run.dirty is not False:
        yield "made from a dirty or unknown tree: run again from a clean one"
    made = list(dict.fromkeys([*run.revisions, str(run.commit)]))
    if made != [str(commit)] or not run.revisions:
        shown = ", ".join(one[:8] for one in made)
        yield f"made at revision {shown}, the checkout is at {str(commit)[:8]}: run again, into another runs_dir"
    for name, outcome in run.benchmarks.items():
        if outcome == "failed":
            yield f"benchmark {name} failed"
    skipped = {name.partition("[")[0] for name, outcome in run.benchmarks.items() if outcome == "skipped"}
    excused = {kind for name, kind in _MEASURED_BY.items() if name in skipped}
    if run.draws < 2:
        excused.add("stability")
    for kind in KINDS:
        if not getattr(run, kind) and kind not in excused:
            yield f"no {kind}: run pytest suites/ --benchmark-only"
    for name, timing in run.speed.items():
        if len(timing.seconds) < 2:
            yield f"{name} has fewer than two rounds"
    if not run.benchmarks:
        yield "no benchmark ran: run pytest suites/ --benchmark-only"
    for name, mebibytes in run.memory.items():
        if mebibytes is None:
            yield f"{name} is undefined"
