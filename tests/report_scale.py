"""Many synthetic runs, to see what a large report costs: `python -m tests.report_scale FOLDER`, then `sdseg report`."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from bench.record import SCORE_COLUMNS
from tests.report_fixtures import write_run

DRAWS = 3
COST = {"samples_per_s": 21.5, "latency_ms_p50": 46.2, "peak_rss_mib": 612.0, "parameters_m": 3.21, "steps": 1}


def many_scores(quality: float, cases: int, seed: int, empty: int = 3) -> pd.DataFrame:
    """Score rows of one label, the last `empty` cases without any defined Dice."""
    rng = np.random.default_rng(seed)
    easy = np.random.default_rng(0).beta(12 * quality, 12 * (1 - quality) + 0.4, cases)  # the same for all methods
    dice = np.clip(easy[:, None] + rng.normal(0, 0.02, (cases, DRAWS)), 0, 1)
    dice[cases - empty :] = np.nan
    of_draws = {"Dice": dice, "IoU": dice / (2 - dice), "HD95": 20 * (1 - dice), "NSD": dice**2}
    of_draws |= {"Sensitivity": dice**1.1, "Precision": dice**0.9, "ECE": 0.1 * (1 - dice)}
    of_cases = {"Dice/pairs": 1 - rng.uniform(0, 0.05, cases), "flip_rate": rng.uniform(0, 0.01, cases)}
    of_cases |= {"PSNR/seg": rng.normal(27, 2, cases), "SSIM/seg": rng.uniform(0.95, 1, cases)}
    names = [f"case-{index:04d}" for index in range(cases)]
    every = [(name, draw) for name in names for draw in range(DRAWS)]
    parts = [_rows(*zip(*every, strict=True), metric, values.ravel()) for metric, values in of_draws.items()]
    parts += [_rows(names, [-1] * cases, metric, values) for metric, values in of_cases.items()]
    return pd.concat(parts, ignore_index=True)[SCORE_COLUMNS]


def _rows(names: list[str], draws: list[int], metric: str, values: np.ndarray) -> pd.DataFrame:
    word = {"metric": metric, "convention": "strict", "label": "lesion"}
    return pd.DataFrame({"case": names, "group": names, "draw": draws, "value": values, **word})


def write_many(runs_dir: Path, methods: int = 20, datasets: int = 5, seeds: int = 5, cases: int = 400) -> None:
    """A run for every method, data set and training seed, methods a little apart."""
    for method, dataset, seed in product(range(methods), range(datasets), range(seeds)):
        scores = many_scores(0.8 + 0.005 * method, cases, seed + 100 * method + 10_000 * dataset)
        data = {"data": f"{dataset:064d}", "split": "5b" * 32}
        write_run(runs_dir, f"method{method:02d}", f"data{dataset}", seed, scores, COST, data=data, draws=DRAWS)


if __name__ == "__main__":
    write_many(Path(sys.argv[1]))
