"""A report of runs with pictures, volumes among them, that the page is tried on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.results.store import RunFolder
from bench.scores import RunScores
from bench.scoring.gallery import write_gallery
from bench.types import Case, TaskSpec
from tests.report_fixtures import score_rows, write_run

DEPTH, SIDE = 6, 40
LABELS = ("liver", "aorta")


class Volumes:
    """Volumes of a ball that grows with the number of the case."""

    spec = TaskSpec(1, LABELS, (SIDE, SIDE), 3, (0.0, 1.0))

    def case(self, case_id: str) -> Case:
        z, y, x = np.mgrid[:DEPTH, :SIDE, :SIDE]
        radius = 6 + int(case_id[-1])
        reference = np.stack([(y - c) ** 2 + (x - c) ** 2 + 4 * (z - 3) ** 2 < radius**2 for c in (14, 26)])
        image = (np.sin(x / 5.0 + z) + 1) / 2 * np.ones((1, DEPTH, SIDE, SIDE))
        return Case(case_id, case_id, image.astype(np.float32), reference)


def write_volumes(runs_dir: Path, method: str, shift: int, cases: int = 4) -> Path:
    """A run on volumes with two draws of predictions that are `shift` pixels off, and its gallery."""
    names = [f"volume-{n}" for n in range(cases)]
    values = [
        (name, name, label, draw, "Dice", 0.9 - 0.1 * shift + 0.01 * n)
        for n, name in enumerate(names)
        for label in LABELS
        for draw in (0, 1)
    ]
    rows = score_rows(values)
    path = write_run(runs_dir, method, "volumes", scores=rows, labels=list(LABELS), dims=3, draws=2)
    folder = RunFolder(path)
    for name in names:
        reference = Volumes().case(name).reference
        for draw in (0, 1):
            mask = np.roll(reference, shift + draw, axis=-1)
            folder.write_prediction(draw, name, mask.astype(np.float32), mask)
    write_gallery(folder, Volumes(), RunScores(rows), 2)  # type: ignore[arg-type]
    return path
