"""A new reference from the runs on disk, refused where they are failed, incomplete or from a dirty tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.gate.reference import Key, Reference, RunFacts, key_name
from bench.gate.verdict import KINDS


def refusals(runs: Mapping[Key, RunFacts | str], commit: str | None, dirty: bool | None) -> list[str]:
    """Every reason not to make a reference of these runs, each one line; none where they may be one."""
    found = []
    if commit is None or dirty is not False:
        found.append("the checkout has uncommitted changes or no revision: commit first")
    for key, run in runs.items():
        problems = [run] if isinstance(run, str) else _problems(run, commit)
        found += [f"{key_name(key)}: {problem}" for problem in problems]
    whole = [run for run in runs.values() if not isinstance(run, str)]
    for what in ("profile", "device", "threads"):
        if len({str(getattr(run, what)) for run in whole}) > 1:
            found.append(f"runs of more than one {what}: make all of them in one session")
    return found


def new_reference(runs: Mapping[Key, RunFacts | str]) -> Reference:
    """The reference that runs without refusals make."""
    whole = [run for run in runs.values() if not isinstance(run, str)]
    return Reference(profile=whole[0].profile, runs=whole)


def _problems(run: RunFacts, commit: str | None) -> Iterator[str]:
    if run.dirty is not False:
        yield "made from a dirty or unknown tree: run again from a clean one"
    if run.commit != commit:
        yield f"made at revision {str(run.commit)[:8]}, the checkout is at {str(commit)[:8]}: run again"
    for name, outcome in run.benchmarks.items():
        if outcome == "failed":
            yield f"benchmark {name} failed"
    skipped = "skipped" in run.benchmarks.values()
    for kind in KINDS:
        if not getattr(run, kind) and not skipped and not (kind == "stability" and run.draws < 2):
            yield f"no {kind}: run pytest suites/ --benchmark-only"
    if not run.benchmarks:
        yield "no benchmark ran: run pytest suites/ --benchmark-only"
    for name, values in run.accuracy.items():
        if all(value is None for value in values.values):
            yield f"{name} is undefined on every case"
    for name, mebibytes in run.memory.items():
        if mebibytes is None:
            yield f"{name} is undefined"
