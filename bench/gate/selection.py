"""Which runs the gate judges: the cells of the configuration, as they lie on disk, and the reference's of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bench.config import Cell
from bench.errors import InputError, NotApplicableError
from bench.gate.reference import Key, Reference, RunFacts, key_name, run_facts
from bench.gate.verdict import NotRun
from bench.runner import Run


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
    found: dict[Key, RunFacts | str] = {}
    for folder in folders:
        facts = run_facts(folder)
        if facts.key in found:
            raise InputError(f"{folder}: another {key_name(facts.key)}; score it again with another --method")
        found[facts.key] = facts
    return found


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
