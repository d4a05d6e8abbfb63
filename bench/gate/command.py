"""The verb `gate` and the option `--gate`: which runs are judged, judging and promoting, without printing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench import progress
from bench.config import Cell, compose_config, expand
from bench.device import resolve
from bench.errors import InputError, NotApplicableError
from bench.gate.against import judge_against
from bench.gate.promotion import judge_candidates
from bench.gate.reference import (
    Key,
    Reference,
    RunFacts,
    key_name,
    read_reference,
    reference_path,
    run_facts,
    write_reference,
)
from bench.gate.terms import REVISION, TRAINING, NotRun, judge, leave_out
from bench.gate.trajectory import judge_trajectory, trajectory
from bench.gate.verdict import Row, Verdict
from bench.metrics.facts import facts_of
from bench.results.environment import git_facts
from bench.runner import Run

_UNSEALED = "the reference has no digest (written by an earlier version), so that edits do not show: promote again"
_ACCEPT = "Make the reference anew: `sdseg gate --promote --accept`, and commit it with this change."
_ROOT = Path(__file__).parents[2]


def checkout() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of this code, None where unknown."""
    facts = git_facts(_ROOT) or {}
    return facts.get("commit"), facts.get("dirty")


def choose_reference(given: Path | None, overrides: list[str], folders: Sequence[Path] = ()) -> Path:
    """The file that was given, or the committed one of the profile on this type of device; none of single folders."""
    if given is not None:
        return given
    if folders:
        raise InputError(f"{folders[0]}: run folders have no committed reference; give --reference FILE, or --out FILE")
    named = dict(o.split("=", 1) for o in overrides if "=" in o)
    return reference_path(named.get("profile", "smoke"), resolve(named.get("device", "auto")))


def gate_settings(cell: Cell) -> dict[str, Any]:
    """The section `gate` of a cell's configuration, checked."""
    settings: dict[str, Any] = cell.config["gate"]
    for name in settings["margins"]:
        facts_of(name)  # an unknown one is refused, with a guess
    lowest = {"memory": 0.0, "seconds": 0.0, "slower": 1.0, "drift": 1.0}
    values = {name: (settings[name], low) for name, low in lowest.items()}
    values |= {f"margins.{name}": (value, 0.0) for name, value in settings["margins"].items()}
    for name, (value, low) in values.items():
        if not low <= value < float("inf"):
            raise InputError(f"gate.{name}={value}: expected a number from {low:g} on")
    return settings


def check_checkout(settings: dict[str, Any]) -> None:
    """InputError where what this code measures could not be tied to a revision, and that is not left out."""
    commit, dirty = checkout()
    if REVISION not in settings["without"] and (commit is None or dirty is not False):
        raise InputError(
            "gate: the checkout has uncommitted changes or no revision, so that no results can speak of it; "
            f"commit first, or judge them all the same with gate.without=[{REVISION}]"
        )


def judge_disk(given: Path | None, overrides: list[str], folders: Sequence[Path] = ()) -> Verdict:
    """Judge these run folders, or the runs of the cells on disk (without a profile given, those of the reference's)."""
    path = choose_reference(given, overrides, folders)
    reference = read_reference(path)
    if reference.of_masks and not folders:
        raise InputError(f"{path}: is of scored folders; name those to judge: sdseg gate DIR ... --reference {path}")
    if not folders and not any(o.startswith("profile=") for o in overrides):
        overrides = [f"profile={reference.profile}", *overrides]
    cells, runs = _chosen(overrides, folders)
    if not reference.of_masks:
        check_checkout(gate_settings(cells[0]))
    return judge_runs(reference, runs, cells, whole=bool(folders))


def against_revision(revision: str, overrides: list[str]) -> Verdict:
    """Judge the working tree against another revision, both made here, for the cells that the overrides choose."""
    cells = expand(overrides)
    return judge_against(revision, cells, overrides, gate_settings(cells[0]))


def _chosen(overrides: list[str], folders: Sequence[Path]) -> tuple[list[Cell], dict[Key, RunFacts | str]]:
    """Cells with the gate's settings, and the runs that are meant."""
    if folders:
        return [Cell(compose_config(overrides))], runs_in(folders)
    cells = expand(overrides)
    return cells, runs_on_disk(cells)


def judge_runs(
    reference: Reference, runs: Mapping[Key, RunFacts | str], cells: Sequence[Cell], whole: bool = False
) -> Verdict:
    """Judge the runs of the cells that were asked for, by their settings, at the revision of the checkout.

    What else the reference holds is named in the verdict and not judged, unless the `whole` of it is asked for.
    """
    asked, others = (reference, []) if whole else asked_for(reference, cells)
    settings = gate_settings(cells[0])
    judged = judge(asked, runs, settings, checkout()[0])
    trained = leave_out(list(_trajectories(asked, cells, settings)), settings)
    notes = [f"not judged, since these runs were not asked for: {', '.join(others)}"] if others else []
    notes += [] if reference.digest else [_UNSEALED]
    left_out = dict.fromkeys((*judged.left_out, *trained.left_out))
    return Verdict((*judged.rows, *trained.rows), tuple(left_out), tuple(notes), _ACCEPT)


def _trajectories(reference: Reference, cells: Sequence[Cell], settings: dict[str, Any]) -> Iterator[Row]:
    """How trainings begin with this code, beside how they began with the reference's."""
    of_key = {(cell.dataset, cell.method, cell.seed): cell for cell in cells}
    for run in reference.runs:
        if run.trajectory is None or run.key not in of_key or TRAINING in settings["without"]:
            continue
        progress.note(f"{key_name(run.key)}: a training of a few steps, beside the reference's")
        yield from judge_trajectory(key_name(run.key), run.trajectory, trajectory(of_key[run.key]))


def _replaced(path: Path) -> Reference | None:
    try:
        return read_reference(path) if path.exists() else None
    except InputError as error:
        reason = f"{path}: exists and is not a reference of this version; move it away or choose another --out"
        raise InputError(reason) from error


def promote(
    out: Path | None, overrides: list[str], accept: bool = False, folders: Sequence[Path] = ()
) -> tuple[Path, Verdict]:
    """Write the runs on disk, or these run folders, as a reference where they pass; the file, and the verdict.

    Where the file is there already they must pass against it too, unless the change is accepted.
    """
    path = choose_reference(out, overrides, folders)
    old = _replaced(path)
    cells, runs = _chosen(overrides, folders)
    settings = gate_settings(cells[0])
    commit, dirty = checkout()
    rows = tuple(judge_candidates(runs, settings, commit, dirty))
    verdict = Verdict(rows)
    if old is not None and not accept:
        against = judge(old, runs, settings, commit)
        note = f"the runs are judged against {path} too, which --accept replaces all the same"
        verdict = Verdict((*rows, *against.rows), against.left_out, (note,))
    if verdict.passed:
        of_key = {(cell.dataset, cell.method, cell.seed): cell for cell in cells}
        whole = [run for run in runs.values() if not isinstance(run, str)]
        begun = [r if r.of_masks else r.model_copy(update={"trajectory": trajectory(of_key[r.key])}) for r in whole]
        write_reference(path, Reference(profile=begun[0].profile, runs=begun))
    return path, verdict


def asked_for(reference: Reference, cells: Sequence[Cell]) -> tuple[Reference, list[str]]:
    """The reference's runs of these cells, and the names of those that it has beside them.

    A cell that a matrix leaves out was asked for all the same: a reference that has it will miss it.
    """
    keys = {(cell.dataset, cell.method, cell.seed) for cell in cells}
    others = [key_name(run.key) for run in reference.runs if run.key not in keys]
    return reference.model_copy(update={"runs": [run for run in reference.runs if run.key in keys]}), others


def runs_on_disk(cells: list[Cell]) -> dict[Key, RunFacts | str]:
    """The facts of every cell's run, or why there are none; bad data is an InputError.

    A cell that a matrix leaves out is left out here too.
    """
    by_key: dict[Key, RunFacts | str] = {}
    for cell in cells:
        with suppress(NotApplicableError):
            by_key[cell.dataset, cell.method, cell.seed] = _facts_of(cell)
    return by_key


def runs_in(folders: Sequence[Path]) -> dict[Key, RunFacts | str]:
    """The facts of these run folders; InputError for one that cannot be read, and for two of one name."""
    by_key: dict[Key, RunFacts | str] = {}
    for folder in folders:
        facts = run_facts(folder)
        if facts.key in by_key:
            raise InputError(f"{folder}: another {key_name(facts.key)}; score it again with another --method")
        by_key[facts.key] = facts
    return by_key


def _facts_of(cell: Cell) -> RunFacts | str:
    folder = Run(cell).folder
    if not folder.record_path.exists():
        return NotRun(f"no results in {folder.path}: pytest suites/ --benchmark-only makes them")
    return facts_or_fault(folder.path)


def facts_or_fault(path: Path) -> RunFacts | str:
    """The facts of a run folder, or what is wrong with it."""
    try:
        return run_facts(path)
    except InputError as error:
        return str(error)
    except Exception as error:  # whatever a file of the run holds, it fails that run alone
        return f"{path}: cannot be judged ({type(error).__name__}: {' '.join(str(error).split())[:200]}); run again"
