"""What a split by frames adds to a score: `python docs/leak.py [METHOD ...]`, on the miniature CVC-ClinicDB.

Every frame is tested twice by the same method: trained on frames of its own sequence (five folds of frames), and
trained on other sequences alone (five folds of whole sequences). The difference is paired by frame; the interval keeps
a sequence together. docs/datasets.md shows what came out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from bench.stats import case_table, compare

FOLDS = 5
HOME = Path("runs/leak")
DATA = HOME / "cvc_mini"


def folds(unit: pd.Series) -> np.ndarray:
    """A fold 0 .. 4 for every row, the same for rows of one unit; units are dealt out in a seeded order."""
    names = np.random.default_rng(0).permutation(sorted(unit.unique()))
    return unit.map(dict(zip(names, np.arange(len(names)) % FOLDS, strict=True))).to_numpy()


def write_manifests(frames: pd.DataFrame) -> None:
    """Five manifests by frames and five by sequences: one fold to test, the next one to select, three to train."""
    for kind, unit in (("frames", frames["case"]), ("sequences", frames["group"])):
        of = folds(unit)
        for fold in range(FOLDS):
            split = np.select([of == fold, of == (fold + 1) % FOLDS], ["test", "val"], "train")
            rows = pd.DataFrame({"case": frames["case"], "split": split})
            rows.to_csv(HOME / f"{kind}{fold}.csv", index=False)


def dice(method: str, kind: str) -> dict[str, float]:
    """Dice of every frame, from the folds in which it was tested."""
    rows = []
    for fold in range(FOLDS):
        runs = HOME / f"{kind}{fold}"
        words = [f"method={method}", "dataset=cvc_clinicdb", f"dataset.root={DATA}", f"runs_dir={runs}"]
        words += [f"dataset.manifest={HOME / f'{kind}{fold}.csv'}", "metrics=[Dice]", "draws=1", "threads=1"]
        subprocess.run([sys.executable, "-m", "bench.cli", "run", *words], check=True)
        rows += [pd.read_parquet(path) for path in runs.glob(f"cvc_clinicdb/{method}/*/scores.parquet")]
    scores = pd.concat(rows)
    return scores[scores["metric"] == "Dice"].set_index("case")["value"].to_dict()


def main(methods: list[str]) -> None:
    """Prepare, train, and print one line per method."""
    HOME.mkdir(parents=True, exist_ok=True)
    words = ["prepare", "cvc_clinicdb", "--source", "mini", "--out", str(DATA)]
    subprocess.run([sys.executable, "-m", "bench.cli", *words], check=True)
    cases = json.loads((DATA / "dataset.json").read_text())["cases"]
    frames = pd.DataFrame([{"case": name, "group": row["group"]} for name, row in cases.items()])
    write_manifests(frames)
    for method in methods:
        by_kind = {kind: dice(method, kind) for kind in ("frames", "sequences")}
        table = case_table(by_kind, frames.set_index("case")["group"].to_dict())
        found = compare(table, "frames", "sequences")
        gain = found.difference
        sys.stdout.write(
            f"{method}: Dice {found.mean_a:.3f} by frames, {found.mean_b:.3f} by sequences; "
            f"difference {gain.estimate:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], p {found.p:.4f}, "
            f"{len(table.cases)} frames of {len(set(table.groups))} sequences\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:] or ["unet", "sdseg"])
