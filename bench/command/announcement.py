"""The line before a matrix starts: how many runs, how long each trains, on what, what is there, about how long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from bench.config import Cell
from bench.errors import InputError, RunError
from bench.runner import Run

# Where a run folder says what a step of its training and one of its predictions took, in seconds.
STEP = "model/fit.json", "train_s_per_step"
PREDICTION = "predictions/inference.json", "seconds_per_prediction"


def announcement(cells: Sequence[Cell]) -> str:
    """One line about cells that are to be fitted, predicted and scored; empty where none of them can start."""
    runs = [run for cell in cells if (run := _opened(cell)) is not None]
    if not runs:
        return ""
    todo = [run for run in runs if run.folder.fit_facts() is None and _steps(run)]
    known = [seconds for run in todo if (seconds := known_of(run, *STEP)) is not None]
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


def known_of(run: Run, file: str, key: str) -> float | None:
    """A number of the newest run of the method on the data set that has it in a JSON file of its folder, or None.

    What a method does in other steps or samples (NAME.steps5) counts as the method's own.
    """
    for folder in twins(run, file):
        with suppress(OSError, ValueError, KeyError, TypeError):
            return float(json.loads((folder / file).read_text(encoding="utf-8"))[key])
    return None


def twins(run: Run, file: str) -> list[Path]:
    """Folders of the method's runs on the data set that have a file, the newest first."""
    methods, name = run.folder.path.parents[1], run.cell.method.partition(".")[0]
    files = [path for method in (name, f"{name}.*") for path in methods.glob(f"{method}/seed*/{file}")]
    newest = sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parents[len(Path(file).parts) - 1] for path in newest]
