"""Figure 3's data: Dice at every number of DDIM steps, with and without the latent-estimation loss."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

from bench.scores import Summary
from bench.stats import SMALLEST_INTERVAL
from reports.frame import Frame
from reports.rows import Row, means, plain
from reports.summary import reliability_notes
from reports.table import Column, Table, number
from reports.variants import variant_labels

NAME, TITLE = "figure3", "Figure 3 · DDIM steps"
COLUMNS = [
    *plain(dataset="terminal"),
    Column("method", "Training"),
    Column("steps", "DDIM steps"),
    *means("Dice", within=("comparison", "method"), sd="page", interval="terminal"),
    *plain("Dice", cases="terminal", excluded="page", undefined="terminal"),
    *plain(draws="page", seeds="terminal", fidelity="page", profile="csv", protocol="csv"),
]
CAPTION = (
    "The same trained weights at every number of DDIM steps. Means, intervals and counts as in Table 2; best is the "
    "best number of steps of one training. The paper's figure prints no numbers."
)
Series = dict[int, Row]  # by number of steps, ascending


@lru_cache(maxsize=1)
def curves(frame: Frame) -> dict[str, dict[str, Series]]:
    """Runs that differ in the seed only, by data set, series and number of steps."""
    records = []
    for run in frame.points:
        method = run.record.config["method"]
        inference = {k: v for k, v in method["inference"].items() if k != "steps"}
        words = "with latent loss" if method.get("options", {}).get("latent_weight") else "no latent loss"
        config = {**run.record.config, "method": {**method, "inference": inference}}
        records.append(run.record.model_copy(update={"method": words, "config": config}))
    points = zip(frame.points, variant_labels(records), strict=True)
    keyed = [
        (run.record.dataset, series, int(run.record.config["method"]["inference"]["steps"]), run)
        for run, series in points
    ]
    by_series: dict[str, dict[str, Series]] = {}
    for (dataset, series, steps), members in groupby(sorted(keyed, key=itemgetter(0, 1, 2)), itemgetter(0, 1, 2)):
        row = Row(dataset, series, [run for *_, run in members])
        by_series.setdefault(dataset, {}).setdefault(series, {})[steps] = row
    return by_series


def build(frame: Frame) -> Table | None:
    """One row per data set, series and number of steps; None where no such runs were made."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    small: list[tuple[str, Summary]] = []
    for dataset, by_series in curves(frame).items():
        for series, by_steps in by_series.items():
            summaries = {steps: row.summary("Dice") for steps, row in by_steps.items()}
            rows += [row.fill(COLUMNS) | {"steps": steps} for steps, row in by_steps.items()]
            small += _small(f"{series} on {dataset}", summaries)
            notes += _words(dataset, series, summaries)
    if not rows:
        return None
    return Table(NAME, TITLE, CAPTION, COLUMNS, rows, notes + reliability_notes(small))


def _small(where: str, summaries: dict[int, Summary]) -> list[tuple[str, Summary]]:
    if min(summary.units for summary in summaries.values()) < SMALLEST_INTERVAL:
        return [(f"{where}, steps={steps}", summary) for steps, summary in summaries.items()]
    # The same cases at every number of steps need saying once.
    return [(where, summary) for summary in {summary.units: summary for summary in summaries.values()}.values()]


def _words(dataset: str, series: str, summaries: dict[int, Summary]) -> list[str]:
    """How far the fewest steps are from the best number of them."""
    defined = {steps: summary.mean for steps, summary in summaries.items() if math.isfinite(summary.mean)}
    if len(defined) < 2:
        return []
    first, best = min(defined), max(defined, key=lambda steps: defined[steps])
    start = f"{dataset}, {series}: Dice {number(defined[first], 3)} with {first} step{'s' if first > 1 else ''}"
    if best == first:
        return [f"{start}, and no more with up to {max(defined)}."]
    return [f"{start}, at best {number(defined[best], 3)} with {best}."]
