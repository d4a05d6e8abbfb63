"""The line before a matrix starts: how many runs, how long each trains, on what, what is there, about how long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from bench.config import Cell
from bench.errors import InputError, RunError
from bench.runner import Run


def announcement(cells: Sequence[Cell]) -> str:
    """One line about cells that are to be fitted, predicted and scored; empty where none of them can start."""
    runs = [run for cell in cells if (run := _opened(cell)) is not None]
    if not runs:
        return ""
    todo = [run for run in runs if run.folder.fit_facts() is None and _steps(run)]
    known = [seconds for run in todo if (seconds := _seconds_per_step(run)) is not None]
    parts = [f"{len(runs)} run{'s' * (len(runs) > 1)}: {_axis(runs)}", _splits(runs)]
    if len(todo) < len(runs):
        parts.append(f"{len(runs) - len(todo)} need no training or have it")
    if todo:
        steps = sorted({_steps(run) for run in todo})
        parts.append(f"training {'-'.join(map(str, dict.fromkeys((steps[0], steps[-1]))))} steps each")
        enough = len(known) == len(todo)
        total = sum(_steps(run) * seconds for run, seconds in zip(todo, known, strict=True)) if enough else 0.0
        parts.append(f"about {timedelta(seconds=round(total))}" if enough else "time unknown until the first steps")
    return "; ".join(parts)


def _opened(cell: Cell) -> Run | None:
    try:
        return Run(cell)
    except (InputError, RunError):  # said when its turn comes
        return None


def _axis(runs: Sequence[Run]) -> str:
    axes = ((run.cell.method, run.cell.dataset, f"seed {run.cell.seed}") for run in runs)
    return " x ".join(", ".join(dict.fromkeys(values)) for values in zip(*axes, strict=True))


def _splits(runs: Sequence[Run]) -> str:
    sizes = {run.cell.dataset: [len(run.dataset.case_ids(s)) for s in ("train", "val", "test")] for run in runs}
    return "; ".join("{}: {} train, {} val, {} test".format(name, *counts) for name, counts in sizes.items())


def _steps(run: Run) -> int:
    """Training steps of a run, 0 where its method does not count in steps."""
    return int((run.cell.config["method"].get("recipe") or {}).get("steps", 0))


def _seconds_per_step(run: Run) -> float | None:
    """What a step took in the newest finished training of the method on the data set, or None."""
    finished = list(run.folder.path.parent.glob("seed*/model/fit.json"))
    for path in sorted(finished, key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(OSError, ValueError, KeyError, TypeError):
            return float(json.loads(path.read_text(encoding="utf-8"))["train_s_per_step"])
    return None
