"""Arrays that lie in run folders: pictures of a gallery, the draws of a case, what training kept to look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reports.frame import Frame
from reports.rows import Row, Run
from reports.variants import unflagged

PAPER_METHOD = "sdseg"
Arrays = dict[str, np.ndarray]


class Kept(NamedTuple):
    """A row of which a training kept something, and the files by step."""

    row: Row
    files: dict[int, Path]


def read_arrays(path: Path, names: Sequence[str], warnings: list[str]) -> Arrays | None:
    """The named arrays of a file; None, and a warning, where it is no such file."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except Exception as error:
        said = f"{path}: cannot be shown ({(str(error).splitlines() or [type(error).__name__])[0]}), skipped"
        warnings += [said] if said not in warnings else []
        return None


def paper_first(rows: Iterable[Row]) -> list[Row]:
    """Rows, the paper's method before all others."""
    return sorted(rows, key=lambda row: (unflagged(row.method) != PAPER_METHOD, row.method))


def runs_in_order(row: Row) -> list[Run]:
    """The runs of a row, the lowest seed first."""
    return sorted(row.runs, key=lambda run: run.record.seed)


def paper_data_first(frame: Frame, name: str) -> list[tuple[str, list[Row]]]:
    """Data sets with their rows, the one of this name in the paper before all others."""
    return sorted(frame.by_dataset(), key=lambda item: (name not in item[0], item[0]))


def kept(frame: Frame, *names: str, first: str = "") -> Iterator[Kept]:
    """Of every data set, `first` before others, the first row whose training kept the named arrays."""
    for _, rows in paper_data_first(frame, first):
        for row in paper_first(rows):
            files = next(filter(None, (_kept_files(run) for run in runs_in_order(row))), {})
            if files and _holds(next(iter(files.values())), names):
                yield Kept(row, files)
                break


def _kept_files(run: Run) -> dict[int, Path]:
    paths = (run.path / "model" / "traces").glob("step-*.npz")
    steps = {path.stem.removeprefix("step-"): path for path in paths}
    return {int(step): path for step, path in sorted(steps.items()) if step.isdecimal()}


def _holds(path: Path, names: Sequence[str]) -> bool:
    return read_arrays(path, names, []) is not None


def draws_of(run: Run, case: str) -> np.ndarray | None:
    """The stored score maps (draws, L, *S) of a case; None where they are not all there."""
    paths = [run.path / "predictions" / f"draw-{draw:03d}" / f"{case}.npz" for draw in range(run.record.draws)]
    maps = [read["score"] for path in paths if path.is_file() and (read := read_arrays(path, ["score"], []))]
    same = len(maps) == len(paths) and len({one.shape for one in maps}) == 1
    return np.stack(maps).astype(np.float32) if same else None
