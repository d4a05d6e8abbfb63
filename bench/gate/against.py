"""The verdict of this code against another revision: values in pairs, times in turn, on one machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import progress
from bench.config import Cell
from bench.errors import InputError, NotApplicableError, RunError
from bench.files import atomic_path
from bench.gate.reference import Key, RunFacts, run_facts
from bench.gate.rounds import Paired, Worker, time_cell, time_start
from bench.gate.rules import judge_memory, judge_ratio
from bench.gate.sides import NotKnown, Side, cell_overrides, commit_of, working_commit
from bench.gate.terms import VALUES, judge_values_of, leave_out, same_question
from bench.gate.verdict import Row, Verdict, failed
from bench.runner import check_applicable, checked_dataset

_ACCEPT = "Say why in the pull request, and allow what the column `needs` names: `gate.KEY=VALUE`."


def judge_against(
    revision: str,
    cells: Sequence[Cell],
    overrides: Sequence[str],
    settings: dict[str, Any],
    made: Mapping[Key, Path] | None = None,
) -> Verdict:
    """Make what is missing of both sides, time them in turn, and judge this working tree against the revision.

    `made` has run folders of this working tree that are there already.
    """
    sides = Side("base", commit_of(revision)), Side("now", working_commit())
    for side in sides:
        side.check_out()
    rows: list[Row] = []
    notes = [f"base {sides[0].commit[:12]} ({revision}), now {sides[1].commit[:12]}"]
    with Worker(sides[0]) as base, Worker(sides[1]) as now:
        for cell in cells:
            try:
                check_applicable(cell, checked_dataset(cell).spec)
            except NotApplicableError as error:
                notes.append(f"left out: {error}")
                continue
            there = (made or {}).get((cell.dataset, cell.method, cell.seed))
            rows += _judge_cell((base, now), cell, cell_overrides(cell, overrides), settings, there)
        if not any(row.kind in VALUES for row in rows):
            rows.append(failed("no run was compared with the base").at("all", "run", "runs"))
        if "speed" not in settings["without"] and any(row.kind == "speed" for row in rows):
            rows.append(_judge_start((base, now), settings).at("both", "speed", "start"))
    return leave_out(rows, settings, tuple(notes), _ACCEPT)


def _judge_cell(
    workers: tuple[Worker, Worker], cell: Cell, words: Sequence[str], settings: dict[str, Any], there: Path | None
) -> Iterator[Row]:
    name = cell.id
    base, now = workers[0].side.make(words), there or workers[1].side.make(words)
    if isinstance(now, str):
        yield failed(now).at(name, "run", "run")
    elif isinstance(base, NotKnown):
        # A method that the base does not have is no fault of this change.
        yield Row("missing", "there", "", True, f"new: {base}").at(name, "run", "run")
    elif isinstance(base, str):
        yield failed(base).at(name, "run", "run")
    else:
        yield from _judge_facts(name, run_facts(base), run_facts(now), settings)
        if {"speed", "memory", "training"} - set(settings["without"]):
            trains = "validate_every" in (cell.config["method"].get("recipe") or {})
            try:
                timed = time_cell(workers, words, (base, now), trains, settings)
                yield from _judge_rounds(name, timed, settings)
            except RunError as error:
                yield failed(str(error)).at(name, "speed", "speed")


def _judge_start(workers: tuple[Worker, Worker], settings: dict[str, Any]) -> Row:
    progress.note("timing the start of both revisions")
    try:
        return _time_row(time_start(workers, settings), settings)
    except RunError as error:
        return failed(str(error))


def _judge_facts(name: str, base: RunFacts, now: RunFacts, settings: dict[str, Any]) -> Iterator[Row]:
    faults = list(same_question(base, now))
    yield from (row.at(name, "run", what) for what, row in faults)
    if base.predictions and base.predictions == now.predictions:
        shown = base.predictions[:8]
        yield Row(shown, shown, "", True, "every prediction is the same to the last bit").at(name, "run", "predictions")
    if not faults:
        yield from judge_values_of(name, base, now, settings)


def _judge_rounds(name: str, timed: dict[str, Paired], settings: dict[str, Any]) -> Iterator[Row]:
    for what, paired in timed.items():
        yield _time_row(paired, settings).at(name, "speed", f"{what} seconds")
        for peak, (before, after) in paired.peaks.items():
            medians = float(np.median(before)), float(np.median(after))
            yield judge_memory(*medians, settings).at(name, "memory", f"{what} {peak}")
        if what == "fit":
            yield _training_row(paired).at(name, "training", "weights")


def _time_row(paired: Paired, settings: dict[str, Any]) -> Row:
    words = tuple(f"{np.median(seconds):.3g} s" for seconds in paired.seconds)
    setting = ("slower", settings["slower"])
    count = f"{len(paired.seconds[0])} pairs"
    return judge_ratio(paired.ratio(), (words[0], words[1]), setting, count)


def _training_row(paired: Paired) -> Row:
    """Whether a short training ends with the same weights, every time and on both sides."""
    base, now = (list(dict.fromkeys(weights)) for weights in paired.trained)
    shown = base[0][:8], now[0][:8]
    if len(now) > 1:
        where = ", as the base's" if len(base) > 1 else ""
        return Row(*shown, "", len(base) > 1, f"the same training ends in {len(now)} different weights{where}")
    return Row(*shown, "", True, "identical" if base == now else "other weights: this change reaches the training")


def base_of(given: str) -> str | None:
    """The revision that `base:REV` names, None for the name of a file."""
    if not given.startswith("base:"):
        return None
    if given == "base:":
        raise InputError("--gate base:REV names a revision, such as base:HEAD~1 or base:$(git merge-base main HEAD)")
    return given.removeprefix("base:")


def write_comment(verdict: Verdict, path: Path | None) -> None:
    """Write the verdict as a comment on a pull request, where one is wanted."""
    if path is not None:
        with atomic_path(path) as part:
            part.write_text(verdict.markdown(), encoding="utf-8")
