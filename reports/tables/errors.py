"""The table of errors: boundaries, volumes, detection and calibration per data set and method, beside Table 2."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bench.scores import Summary
from bench.stats import SMALLEST_INTERVAL
from reports.frame import Frame
from reports.rows import Row, beside, cells_of, plain
from reports.summary import counts, reliability_notes
from reports.table import Column, Level, Table

_RANKED = ("comparison", "convention")
_COUNTS = (
    Column("missed", "Missed", better="lower", digits=1, within=_RANKED),
    Column("hallucinated", "Hallucinated", better="lower", digits=1, within=_RANKED),
    Column("both_empty", "Both empty", digits=1, level="page"),
)
_MEANS = (
    Column("HD95", "HD95", better="lower", digits=2, within=_RANKED),
    Column("NSD", "NSD", better="higher", within=_RANKED),
    Column("RelativeVolumeDifference", "Volume error", better="lower", within=_RANKED),
    Column("ECE", "ECE", better="lower", within=_RANKED),
    Column("ASSD", "ASSD", better="lower", digits=2, level="page", within=_RANKED),
    Column("Sensitivity", "Sensitivity", better="higher", level="page", within=_RANKED),
    Column("Precision", "Precision", better="higher", level="page", within=_RANKED),
    Column("VolumeDifference", "Volume difference", better="lower", digits=2, level="page", within=_RANKED),
    Column("VolumeBias", "Volume bias", digits=2, level="page"),
    Column("Brier", "Brier", better="lower", level="page", within=_RANKED),
)
CAPTION = (
    "Means over test cases as in Table 2. HD95: the larger one of the two directed 95th percentiles of surface "
    "distances, and ASSD the mean of all of them, in the unit beside; NSD: share of both surfaces that lies within the "
    "tolerance of the other. By convention strict, where one mask is empty HD95 and ASSD are the image's diagonal and "
    "NSD, sensitivity and precision 0; where both are empty, all five are undefined. Volume error: absolute difference "
    "of the volumes over the reference's, undefined where that is empty; volume bias: predicted minus reference. "
    "Missed (an empty mask where there is a target), hallucinated (a target where there is none) and both empty are "
    "numbers of cases, each label of a case counted, the mean over draws and seeds. ECE and Brier score: of the soft "
    "score over all elements of the image, comparable on equal images only. A row has the metrics of one convention, "
    "the protocol's own or, where it has none, strict."
)


def build(frame: Frame) -> Table | None:
    """One row per data set, method and convention; None where nothing but Dice and IoU was scored."""
    means = [*_MEANS, *_further(frame)]
    metrics = [column.key for column in [*means, *_COUNTS]]
    rows: list[dict[str, Any]] = []
    scored: list[tuple[str, dict[str, Summary]]] = []
    for row in frame.rows:
        for one in row.by_convention(metrics):
            summaries = {metric: one.summary(metric) for metric in metrics if one.convention in one.conventions(metric)}
            rows.append(_row(one, summaries))
            scored.append((one.where, summaries))
    if not rows:
        return None
    notes = [*_small_notes(scored), *_undefined_notes(scored, means), *_tolerances(frame, means)]
    unscored = [row.where for row in frame.rows if not row.conventions(*metrics)]
    if unscored:
        notes.append(f"Scored by Dice and IoU alone (sdseg score adds the rest): {'; '.join(unscored)}.")
    title = "Errors · Boundaries, volume, detection and calibration"
    return Table("errors", title, CAPTION, _columns(means), rows, notes)


def _further(frame: Frame) -> list[Column]:
    """Surface Dice at tolerances of their own, as NSD@1, and the metrics of plug-ins."""
    known = {column.key for column in (*_MEANS, *_COUNTS)} | {"Dice", "IoU"}
    columns, every = [], Row("", "", frame.runs)
    for name in sorted(every.metrics - known):
        if every.conventions(name):
            facts = every.facts(name)
            level: Level = "page" if name.startswith("NSD@") else "terminal"
            columns.append(Column(name, name, facts.unit, facts.better, level=level, within=_RANKED))
    return columns


def _columns(means: list[Column]) -> list[Column]:
    by_name = {column.key: column for column in means}
    first = ("HD95", "NSD", "RelativeVolumeDifference")
    return [
        *plain(dataset="terminal", method="terminal"),
        by_name["HD95"],
        *plain(unit="terminal"),
        *(by_name[name] for name in first[1:]),
        *_COUNTS[:2],
        *(column for name, column in by_name.items() if name not in first),
        _COUNTS[2],
        *plain(volume_unit="page", cases="terminal", undefined="page", convention="page"),
        *plain(draws="csv", seeds="csv", fidelity="csv", profile="csv", protocol="csv"),
        *beside([*means, *_COUNTS], "interval"),
        *beside(means, "undefined"),
    ]


def _row(row: Row, summaries: dict[str, Summary]) -> dict[str, Any]:
    cells = row.fill([]) | {"method": row.method + row.suffix} | cells_of(summaries)
    cells["unit"] = _unit(row, ("HD95", "ASSD"), summaries)
    cells["volume_unit"] = _unit(row, ("VolumeDifference",), summaries)
    for metric in {column.key for column in _COUNTS} & summaries.keys():
        # Cases and labels of a kind; where a sample holds none, the interval is not [0, 0].
        summary = summaries[metric]
        size, interval = summary.cases * summary.labels, summary.interval
        cells[metric] = summary.count
        cells[f"{metric}_interval"] = interval and (interval[0] * size, interval[1] * size)
    return cells


def _unit(row: Row, metrics: tuple[str, ...], scored: Collection[str]) -> str | None:
    units = [row.facts(metric).unit for metric in metrics if metric in scored]
    return next((unit.replace("mm2", "mm²") for unit in units if unit), None)


def _small_notes(scored: list[tuple[str, dict[str, Summary]]]) -> list[str]:
    of = [(where, *next(iter(summaries.items()))) for where, summaries in scored]
    return reliability_notes([(w if s.units >= SMALLEST_INTERVAL else f"{w}, {metric}", s) for w, metric, s in of])


def _undefined_notes(scored: list[tuple[str, dict[str, Summary]]], means: list[Column]) -> list[str]:
    """One line for metrics that are undefined, or infinite, on the same values."""
    lines: dict[str, list[str]] = {}
    for column in means:
        for word, listed in zip(("undefined", "infinite"), counts(scored, column.key), strict=True):
            if listed:
                lines.setdefault(f"{word}: {listed}.", []).append(column.title)
    return [f"{', '.join(titles)} {line}" for line, titles in lines.items()]


def _tolerances(frame: Frame, means: list[Column]) -> list[str]:
    names = [column.key for column in means if column.key.startswith("NSD")]
    runs = [Row("", "", [run]) for run in frame.runs]
    facts = [(name, run.facts(name)) for name in names for run in runs if name in run.metrics]
    return sorted({f"{name}: {fact.note}." for name, fact in facts if fact.note})
