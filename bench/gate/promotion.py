"""Whether runs may become a reference: each is judged against itself, and must have all that is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.gate.reference import Key, RunFacts, key_name
from bench.gate.terms import KINDS, judge_run
from bench.gate.verdict import Row, failed

_MEASURED_BY = {"test_stability": "stability", "test_speed": "speed", "test_footprint": "memory"}


def judge_candidates(
    runs: Mapping[Key, RunFacts | str], settings: dict[str, Any], commit: str | None, dirty: bool | None
) -> Iterator[Row]:
    """What is wrong with a run fails where it is compared with itself; what is not there is asked for here."""
    if not runs:
        yield failed("no run: the overrides choose none that applies").at("all", "run", "runs")
    whole = [run for run in runs.values() if not isinstance(run, str)]
    of_models = [run for run in whole if not run.of_masks]
    if (commit is None or dirty is not False) and (of_models or not whole):
        yield failed("the checkout has uncommitted changes or no revision: commit first").at("all", "run", "revision")
    for what, of in (("profile", whole), ("device", of_models), ("threads", of_models)):
        if len({str(getattr(run, what)) for run in of}) > 1:
            yield failed(f"runs of more than one {what}: make all of them in one session").at("all", "run", what)
    for key, run in runs.items():
        name = key_name(key)
        if isinstance(run, str):
            yield failed(run).at(name, "run", "run")
            continue
        yield from judge_run(name, run, run, {**settings, "without": ()}, commit)
        yield from (failed(reason).at(name, "run", what) for what, reason in _lacks(run))


def _lacks(run: RunFacts) -> Iterator[tuple[str, str]]:
    skipped = {name.partition("[")[0] for name, outcome in run.benchmarks.items() if outcome == "skipped"}
    excused = {kind for name, kind in _MEASURED_BY.items() if name in skipped or run.of_masks}
    excused |= {"stability"} if run.draws < 2 else set()
    for kind in KINDS:
        if not getattr(run, kind) and kind not in excused:
            yield kind, f"no {kind}: {run.again if run.of_masks else 'run pytest suites/ --benchmark-only'}"
    if not (run.benchmarks or run.of_masks):
        yield "benchmarks", "no benchmark ran: run pytest suites/ --benchmark-only"
    for name, values in run.accuracy.items():
        if all(value is None for value in values.values):
            yield name, "undefined on every case"
