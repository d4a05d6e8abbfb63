"""Steps x samples: Dice, agreement of draws and time over both, by training; Figure 3's data are among them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from bench.record import RunRecord
from bench.scores import Summary
from bench.stats import SMALLEST_INTERVAL
from reports.frame import Frame, is_point
from reports.provenance import answer_seconds, sampling
from reports.rows import Row, Run, means, plain
from reports.summary import reliability_notes
from reports.table import Column, Table, number
from reports.variants import settings_of, variant_labels

NAME, TITLE = "figure3", "Figure 3 · Steps \u00d7 samples"
_LINE = ("comparison", "method")
AGREEMENT = (
    Column("Dice/pairs", "Dice pairs", "", "higher", 4, "terminal", _LINE),
    Column("LPIPS/score", "LPIPS Score", "", "lower", 4, "page", _LINE),
    Column("SSIM/score", "SSIM Score", "", "higher", 4, "page", _LINE),
)
COLUMNS = [
    *plain(dataset="terminal"),
    Column("method", "Training"),
    Column("steps", "Steps"),
    Column("samples", "Samples"),
    *means("Dice", within=_LINE, sd="page", interval="terminal"),
    *AGREEMENT,
    Column("seconds", "Time of an answer", "s", "lower", 4, "terminal", (*_LINE, "clock")),
    Column("clock", "Clock", level="page"),
    *plain("Dice", cases="terminal", excluded="page", undefined="terminal"),
    *plain(draws="page", seeds="terminal", fidelity="page", profile="csv", protocol="csv"),
]
TIMED, PREDICTED = "one by one", "in batches"
CAPTION = (
    "The same trained weights at every number of steps, and of samples fused into one answer. Means, intervals and "
    "counts as in Table 2, agreement of repeated answers as in Table 5 (convention strict); best is the best of one "
    "training. Time of an answer, an image or slice: one by one where all of a data set were timed as in Table 4, else "
    "in batches, as the step predict took. The paper's figure has one sample and prints no numbers."
)


class At(NamedTuple):
    """A point of the axes."""

    steps: int
    samples: int


Series = dict[At, Row]  # ascending


@lru_cache(maxsize=1)
def curves(frame: Frame) -> dict[str, dict[str, Series]]:
    """Runs that differ in the seed only, by data set, series, and steps and samples.

    A run that is a row of other tables is a point too, where it differs from points in steps and samples alone.
    """
    wanted = {_key(run.record) for run in frame.points}
    runs = [run for run in frame.all_runs if sampling(run.record) and _key(run.record) in wanted]
    labels = variant_labels([_series_of(run.record) for run in runs])
    members: dict[tuple[str, str, At], dict[int, Run]] = {}
    for run, series in zip(runs, labels, strict=True):
        at = At(*(sampling(run.record) or (1, 1)))
        # The point itself stays where a row says the same.
        members.setdefault((run.record.dataset, series, at), {}).update({run.record.seed: run})
    by_series: dict[str, dict[str, Series]] = {}
    for (dataset, series, at), by_seed in sorted(members.items()):
        of_dataset = by_series.setdefault(dataset, {})
        of_dataset.setdefault(series, {})[at] = Row(dataset, series, list(by_seed.values()))
    return by_series


def _series_of(record: RunRecord) -> RunRecord:
    """The record without what differs along a series, named as its training is."""
    method = record.config["method"]
    axes = ("steps", "samples", "runs")
    inference = {key: value for key, value in method["inference"].items() if key not in axes}
    settings = {key: value for key, value in method.items() if key != "sweep"}
    config = {**record.config, "method": {**settings, "inference": inference}}
    lossless = (method.get("options") or {}).get("latent_weight") == 0
    name = re.sub(r"(\.(steps|samples)\d+)+$", "", record.method) if is_point(record) else record.method
    return record.model_copy(update={"method": name + ", no latent loss" * lossless, "config": config})


def _key(record: RunRecord) -> tuple[Any, ...]:
    series = _series_of(record) if sampling(record) else record
    return series.dataset, series.method, tuple(sorted(settings_of(series).items()))


def seconds(rows: Sequence[Row]) -> tuple[str, list[float]]:
    """How answers of all rows were timed alike, and the mean seconds of each over its seeds, NaN where unknown."""
    timed, predicted = (
        [math.fsum(answer_seconds(run.record)[which] for run in row.runs) / len(row.runs) for row in rows]
        for which in (0, 1)
    )
    return (PREDICTED, predicted) if any(map(math.isnan, timed)) else (TIMED, timed)


def build(frame: Frame) -> Table | None:
    """One row per data set, series, steps and samples; None where no such runs were made."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    small: list[tuple[str, Summary]] = []
    for dataset, by_series in curves(frame).items():
        clock, times = seconds([row for series in by_series.values() for row in series.values()])
        left = iter(times)
        for series, points in by_series.items():
            mine = {at: next(left) for at in points}
            rows += [_row(row, at) | _time(mine[at], clock) for at, row in points.items()]
            summaries = {at: row.summary("Dice") for at, row in points.items()}
            small += _small(f"{series} on {dataset}", summaries)
            notes += _words(f"{dataset}, {series}", summaries, mine)
    if not rows:
        return None
    return Table(NAME, TITLE, CAPTION, COLUMNS, rows, notes + reliability_notes(small))


def _row(row: Row, at: At) -> dict[str, Any]:
    pairs = {column.key: row.agreement(column.key) for column in AGREEMENT}
    agreement = {key: summary.mean if summary.cases else None for key, summary in pairs.items()}
    return row.fill(COLUMNS) | at._asdict() | agreement


def _time(value: float, clock: str) -> dict[str, Any]:
    return {} if math.isnan(value) else {"seconds": value, "clock": clock}


def _small(where: str, summaries: dict[At, Summary]) -> list[tuple[str, Summary]]:
    if min(summary.units for summary in summaries.values()) < SMALLEST_INTERVAL:
        return [(f"{where}, {at.steps} \u00d7 {at.samples}", summary) for at, summary in summaries.items()]
    # The same cases at every point need saying once.
    return [(where, summary) for summary in {summary.units: summary for summary in summaries.values()}.values()]


def _words(where: str, summaries: dict[At, Summary], times: dict[At, float]) -> list[str]:
    """How far the cheapest answer is from the best one, and what that one takes."""
    defined = {at: summary.mean for at, summary in summaries.items() if math.isfinite(summary.mean)}
    if len(defined) < 2:
        return []
    first, best = min(defined, key=lambda at: (at.steps * at.samples, at)), max(defined, key=lambda at: defined[at])
    start = f"{where}: Dice {number(defined[first], 3)} with {_counts(first)}"
    if best == first:
        return [f"{start}, and no more with up to {_counts(max(defined))}."]
    more = times[best] / times[first] if times[first] else math.nan
    price = "" if math.isnan(more) else f", in {number(more, 1)} times the time"
    return [f"{start}, at best {number(defined[best], 3)} with {_counts(best)}{price}."]


def _counts(at: At) -> str:
    samples = f" of {at.samples} samples" if at.samples > 1 else ""
    return f"{at.steps} step{'s' if at.steps > 1 else ''}{samples}"
