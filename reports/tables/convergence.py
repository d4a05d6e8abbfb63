"""Figure 3's data: Dice at every number of DDIM steps, with and without the latent-estimation loss."""

from __future__ import annotations

import math
from typing import Any

from bench.scores import Summary
from bench.stats import SMALLEST_INTERVAL
from reports.frame import Frame, Run
from reports.summary import reliability_notes
from reports.table import Column, Table, number
from reports.variants import variant_labels

NAME, TITLE = "figure3", "Figure 3 · DDIM steps"
COLUMNS = [
    Column("dataset", "Data set"),
    Column("method", "Training"),
    Column("steps", "DDIM steps"),
    Column("Dice", "Dice", better="higher", within=("comparison", "method")),
    Column("Dice_sd", "SD", level="page"),
    Column("Dice_interval", "95 % interval"),
    Column("cases", "Cases"),
    Column("excluded", "Excluded", level="page"),
    Column("undefined", "Undefined"),
    Column("draws", "Draws", level="page"),
    Column("seeds", "Seeds"),
    Column("fidelity", "Fidelity", level="page"),
    Column("profile", "Profile", level="csv"),
    Column("protocol", "Protocol", level="csv"),
]
CAPTION = (
    "The same trained weights at every number of DDIM steps. Means, intervals and counts as in Table 2; best is the "
    "best number of steps of one training. The paper's figure prints no numbers."
)
Curves = dict[str, dict[str, dict[int, list[Run]]]]


def curves(frame: Frame) -> Curves:
    """Runs that differ in the seed only, by data set, series and number of steps (ascending)."""
    records = []
    for run in frame.points:
        method = run.record.config["method"]
        inference = {k: v for k, v in method["inference"].items() if k != "steps"}
        words = "with latent loss" if method.get("options", {}).get("latent_weight") else "no latent loss"
        config = {**run.record.config, "method": {**method, "inference": inference}}
        records.append(run.record.model_copy(update={"method": words, "config": config}))
    by_series: Curves = {}
    named = zip(frame.points, variant_labels(records), strict=True)
    for run, series in sorted(named, key=lambda x: (x[0].record.dataset, x[1], steps_of(x[0]))):
        of_dataset = by_series.setdefault(run.record.dataset, {})
        of_dataset.setdefault(series, {}).setdefault(steps_of(run), []).append(run)
    return by_series


def steps_of(run: Run) -> int:
    """The DDIM steps of a point, from its configuration."""
    return int(run.record.config["method"]["inference"]["steps"])


def dice(frame: Frame, runs: list[Run]) -> Summary:
    """Dice over cases of one point."""
    return frame.summary(runs, "Dice")


def build(frame: Frame) -> Table | None:
    """One row per data set, series and number of steps; None where no such runs were made."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    small: list[tuple[str, Summary]] = []
    for dataset, by_series in curves(frame).items():
        for series, by_steps in by_series.items():
            summaries = {steps: dice(frame, runs) for steps, runs in by_steps.items()}
            rows += [_row(dataset, series, steps, runs, summaries[steps]) for steps, runs in by_steps.items()]
            small += _small(f"{series} on {dataset}", summaries)
            notes += _words(dataset, series, summaries)
    if not rows:
        return None
    return Table(NAME, TITLE, CAPTION, COLUMNS, rows, notes + reliability_notes(small))


def _row(dataset: str, series: str, steps: int, runs: list[Run], summary: Summary) -> dict[str, Any]:
    record = runs[0].record
    row: dict[str, Any] = {"dataset": dataset, "method": series, "steps": steps, "comparison": runs[0].comparison}
    row |= {"Dice": summary.mean, "Dice_sd": summary.sd, "Dice_interval": summary.interval}
    row |= {"cases": summary.cases, "excluded": summary.excluded, "undefined": summary.undefined}
    row |= {"draws": record.draws, "seeds": ", ".join(str(run.record.seed) for run in runs)}
    return row | {"fidelity": record.fidelity, "profile": record.profile, "protocol": record.protocol}


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
