"""Whether a folder of runs has changed, at the price of some file times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reports.frame import run_folders
from reports.unfinished import read_unfinished

_RESULTS = ("record.json", "scores.parquet")


@dataclass(frozen=True)
class Look:
    """When the results of every run were written, and how far those are that have not ended."""

    times: dict[Path, int]
    progress: list[str]

    @property
    def ended(self) -> int:
        """How many runs have a record."""
        return sum(path.name == "record.json" for path in self.times)


def look(runs_dir: Path) -> Look:
    """How a folder of runs stands now."""
    times, progress = {}, []
    for folder in run_folders(runs_dir, []):
        for path in (folder / name for name in _RESULTS):
            try:
                times[path] = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
        if folder / "record.json" not in times and (run := read_unfinished(folder)) is not None:
            progress.append(run.line)
    return Look(times, progress)
