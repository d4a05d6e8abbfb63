"""The table of errors: boundaries, volumes, detection and calibration per data set and method, beside Table 2."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bench.scores import Summary
from bench.stats import SMALLEST_INTERVAL
from reports.frame import Frame, Run
from reports.summary import reliability_notes, undefined_note
from reports.table import Column, Level, Table
from reports.variants import unflagged

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
    rows: list[dict[str, Any]] = []
    unscored: list[str] = []
    scored: list[tuple[str, dict[str, Summary]]] = []
    for dataset, method, runs in frame.cells():
        by_metric = {column.key: frame.conventions(runs, column.key) for column in [*means, *_COUNTS]}
        conventions = sorted({convention for names in by_metric.values() for convention in names})
        where = f"{unflagged(method)} on {dataset}"
        if not conventions:
            unscored.append(where)
        for convention in conventions:
            chosen = [metric for metric, names in by_metric.items() if convention in names]
            summaries = {metric: frame.summary(runs, metric, convention) for metric in chosen}
            which = f" ({convention})" if len(conventions) > 1 else ""
            rows.append(_row(frame, dataset, method + which, runs, convention, summaries))
            scored.append((where + which, summaries))
    if not rows:
        return None
    notes = [*_small_notes(scored), *_undefined_notes(scored, means), *_tolerances(frame, means)]
    if unscored:
        notes.append(f"Scored by Dice and IoU alone (sdseg score adds the rest): {'; '.join(unscored)}.")
    title = "Errors · Boundaries, volume, detection and calibration"
    return Table("errors", title, CAPTION, _columns(means), rows, notes)


def _further(frame: Frame) -> list[Column]:
    """Surface Dice at tolerances of their own, as NSD@1, and the metrics of plug-ins."""
    known = {column.key for column in (*_MEANS, *_COUNTS)} | {"Dice", "IoU"}
    names = sorted(name for name in frame.metrics(frame.runs) - known if frame.conventions(frame.runs, name))
    return [_further_column(frame, name) for name in names]


def _further_column(frame: Frame, name: str) -> Column:
    facts = frame.facts(frame.runs, name)
    level: Level = "page" if name.startswith("NSD@") else "terminal"
    return Column(name, name, facts.unit, facts.better, level=level, within=_RANKED)


def _columns(means: list[Column]) -> list[Column]:
    by_name = {column.key: column for column in means}
    first = ("HD95", "NSD", "RelativeVolumeDifference")
    intervals = [Column(f"{c.key}_interval", f"{c.title} interval", level="csv") for c in [*means, *_COUNTS]]
    undefined = [Column(f"{c.key}_undefined", f"{c.title} undefined", level="csv") for c in means]
    return [
        Column("dataset", "Data set"),
        Column("method", "Method"),
        by_name["HD95"],
        Column("unit", "Unit"),
        *(by_name[name] for name in first[1:]),
        *_COUNTS[:2],
        *(column for name, column in by_name.items() if name not in first),
        _COUNTS[2],
        Column("volume_unit", "Volume unit", level="page"),
        Column("cases", "Cases"),
        Column("undefined", "Undefined", level="page"),
        Column("convention", "Convention", level="page"),
        *(Column(key, key.capitalize(), level="csv") for key in ("draws", "seeds", "fidelity", "profile", "protocol")),
        *intervals,
        *undefined,
    ]


def _row(
    frame: Frame,
    dataset: str,
    method: str,
    runs: list[Run],
    convention: str,
    summaries: dict[str, Summary],
) -> dict[str, Any]:
    record = runs[0].record
    row: dict[str, Any] = {"dataset": dataset, "method": method, "comparison": runs[0].comparison}
    row |= {"convention": convention, "draws": record.draws, "fidelity": record.fidelity, "profile": record.profile}
    row |= {"protocol": record.protocol, "seeds": ", ".join(str(run.record.seed) for run in runs)}
    row |= {
        "unit": _unit(frame, runs, ("HD95", "ASSD"), summaries),
        "volume_unit": _unit(frame, runs, ("VolumeDifference",), summaries),
    }
    counts = {column.key for column in _COUNTS}
    for metric, summary in summaries.items():
        if metric in counts:
            row |= _count(metric, summary)
        else:
            row |= {metric: _mean(summary), f"{metric}_interval": summary.interval}
            row |= {f"{metric}_undefined": summary.undefined, f"{metric}_why": summary.why}
    row["cases"] = max(summary.cases + summary.excluded for summary in summaries.values())
    row["undefined"] = sum(summary.undefined for summary in summaries.values())
    return row


def _unit(frame: Frame, runs: list[Run], metrics: tuple[str, ...], scored: Collection[str]) -> str | None:
    units = [frame.facts(runs, metric).unit for metric in metrics if metric in scored]
    return next((unit.replace("mm2", "mm²") for unit in units if unit), None)


def _mean(summary: Summary) -> float | None:
    return summary.mean if summary.cases or summary.infinite else None


def _count(metric: str, summary: Summary) -> dict[str, Any]:
    """Cases and labels of a kind; where a sample holds none, its interval is not [0, 0]."""
    size = summary.cases * summary.labels
    interval = summary.interval and (summary.interval[0] * size, summary.interval[1] * size)
    return {metric: summary.count, f"{metric}_interval": interval}


def _small_notes(scored: list[tuple[str, dict[str, Summary]]]) -> list[str]:
    of = [(where, *next(iter(summaries.items()))) for where, summaries in scored]
    return reliability_notes([(w if s.units >= SMALLEST_INTERVAL else f"{w}, {metric}", s) for w, metric, s in of])


def _undefined_notes(scored: list[tuple[str, dict[str, Summary]]], means: list[Column]) -> list[str]:
    """One line for metrics that are undefined, or infinite, on the same values."""
    lines: dict[str, list[str]] = {}
    for column in means:
        of = [(where, summaries[column.key]) for where, summaries in scored if column.key in summaries]
        counts = [undefined_note(where, s) for where, s in of if s.undefined]
        infinite = [f"{where} {s.infinite}" for where, s in of if s.infinite]
        for word, listed in (("undefined", counts), ("infinite", infinite)):
            if listed:
                lines.setdefault(f"{word}: {'; '.join(listed)}.", []).append(column.title)
    return [f"{', '.join(titles)} {line}" for line, titles in lines.items()]


def _tolerances(frame: Frame, means: list[Column]) -> list[str]:
    scored = [(c.key, run) for c in means for run in frame.runs if c.key in frame.metrics([run])]
    facts = [(name, frame.facts([run], name)) for name, run in scored]
    return sorted({f"{name}: {fact.note}." for name, fact in facts if name.startswith("NSD") and fact.note})
