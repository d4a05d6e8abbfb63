"""The verbs run, fit, predict and score: a step for every cell of a matrix, here or as the jobs of a sweep."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from bench.command.arguments import STEPS
from bench.command.terminal import complain, say
from bench.config import expand, idle_keys
from bench.errors import BAD_INPUT, DONE, RUN_FAILED, InputError, NotApplicableError, one_line

_HEADLINE = ("Dice", "IoU", "HD95", "NSD")
Printer = Callable[[str], None]


def run_cells(
    verb: str,
    overrides: list[str],
    out: Printer = say,
    err: Printer = complain,
    redo: str | None = None,
    workers: int = 1,
) -> int:
    """Do a verb for every cell, `redo` and the steps after it anew, and return the exit code. `workers` score.

    A run that fails does not keep the others from finishing.
    """
    from bench.command.announcement import announcement
    from bench.measure.speed import measure_cell
    from bench.runner import run_cell

    code = DONE
    said: set[str] = set()
    cells, first = expand(overrides), os.environ.get("RANK", "0") == "0"
    if len(cells) > 1 and "fit" in STEPS[verb][0] and first and (line := announcement(cells)):
        err(line)
    if idle := idle_keys(overrides, cells):
        err(f"note: {', '.join(idle)}: no chosen method trains, so it changes nothing")
    for cell in cells:
        try:
            folder = measure_cell(cell) if verb == "measure" else run_cell(cell, STEPS[verb][0], redo, workers)
        except NotApplicableError as error:
            err(f"{'left out' if len(cells) > 1 else 'error'}: {error}")
            code = max(code, BAD_INPUT if len(cells) == 1 else DONE)
        except Exception as error:
            if os.environ.get("SDSEG_DEBUG") == "1":
                raise
            bad_input = isinstance(error, InputError)
            message = f"error: {'' if bad_input else f'{cell.id}: '}{one_line(error)}"
            if message not in said:  # bad data is bad for every method alike
                err(message)
            said.add(message)
            code = max(code, BAD_INPUT if bad_input else RUN_FAILED)
        else:
            if first:
                out(f"{cell.id}: {folder}{summary(folder)}")
    return code


def summary(folder: Path) -> str:
    """The headline metrics of a run folder, behind one another; of several labels their Dice too."""
    from bench.record import read_record
    from bench.scores import read_run_scores

    if not all((folder / name).exists() for name in ("record.json", "scores.parquet")):
        return ""
    record, scores = read_record(folder / "record.json"), read_run_scores(folder / "scores.parquet")

    def value(metric: str, label: str | None = None) -> str:
        return f"{scores.summary(metric, record.metrics[metric], label=label).mean:.4f}"

    scored = [name for name in record.metrics if scores.conventions(name)]
    shown = [name for name in _HEADLINE if name in scored] or scored[:4]
    text = "".join(f"  {name} {value(name)}" for name in shown)
    if len(record.labels) < 2 or "Dice" not in scored:
        return text
    return f"{text}  Dice by label: " + ", ".join(f"{label} {value('Dice', label)}" for label in record.labels)
