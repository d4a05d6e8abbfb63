"""Table 5: how far repeated draws of one case agree, on masks (Seg) and on score maps (Score)."""

from __future__ import annotations

from typing import Any, Literal

from bench.scores import Summary
from reports.frame import Frame, Run
from reports.published import read_ledger, same_dataset
from reports.summary import reliability_notes, undefined_note
from reports.table import Column, Level, Table
from reports.tables.accuracy import published_row
from reports.tables.reasons import missing_notes, reason
from reports.variants import unflagged

_IMAGE: tuple[tuple[str, str, Literal["higher", "lower"], int], ...] = (
    ("LPIPS", "", "lower", 4),
    ("PSNR", "dB", "higher", 2),
    ("SSIM", "", "higher", 4),
    ("MS-SSIM", "", "higher", 4),
)
_RANKED = ("comparison", "draws")
MAPS = ("seg", "score")
_RELEASED = "sdseg"
_PAPER_ROW = "slices_without_reference"
# What the release leaves out, and says nothing of.
_DROPPED = {
    _PAPER_ROW: "slices without reference",
    "empty_images/seg": "images in which the first draw found nothing",
    "empty_pairs/seg": "pairs in which the other draw found nothing",
    "identical_pairs/seg": "identical pairs of masks (PSNR)",
    "identical_pairs/score": "identical pairs of scores (PSNR)",
}


def _metric_columns() -> list[Column]:
    columns: list[Column] = []
    for name, unit, better, digits in _IMAGE:
        for part in MAPS:
            # The terminal has room for one of the two maps.
            level: Level = "terminal" if part == "score" else "page"
            key, title = f"{name}/{part}", f"{name} {part.capitalize()}"
            columns.append(Column(key, title, unit, better, digits, level, _RANKED))
    columns.append(Column("Dice/pairs", "Dice pairs", "", "higher", 4, "terminal", _RANKED))
    columns.append(Column("flip_rate", "Flip rate", "", "lower", 4, "terminal", _RANKED))
    columns.append(Column("volume_cv", "Volume CV", "", "lower", 4, "page", _RANKED))
    return columns


METRIC_COLUMNS = _metric_columns()
COLUMNS = [
    Column("dataset", "Data set"),
    Column("method", "Method"),
    Column("convention", "Convention", level="page"),
    *METRIC_COLUMNS,
    Column("draws", "Draws", level="page"),
    Column("cases", "Cases"),
    Column("undefined", "Undefined"),
    Column("identical", "Identical", level="page"),
    Column("seeds", "Seeds", level="csv"),
    *(Column(f"{c.key}_interval", f"{c.title} interval", level="csv") for c in METRIC_COLUMNS),
    *(Column(f"{c.key}_undefined", f"{c.title} undefined", level="csv") for c in METRIC_COLUMNS),
]
CAPTION = (
    "Agreement of repeated draws of one case from different initial noise: one value per case over its "
    "draws, then the mean over cases. Dice pairs (Dice between draws), flip rate (share of pixels on which the draws "
    "disagree) and volume CV (standard deviation of the volume over draws by its mean) say what SSIM hides for small "
    "targets. Convention strict takes all pairs of draws; sdseg takes LPIPS, PSNR, SSIM and MS-SSIM as the SDSeg "
    "release does: the first draw against the others, empty maps and identical pairs left out, the mean over images. "
    "Strict PSNR is that of the mean squared error over cases, so that identical draws (infinite PSNR) count and are "
    "counted. Undefined: values of all metrics that are undefined. Score maps of different methods are on different "
    "scales; compare with care."
)


def build(frame: Frame) -> Table:
    """One row per data set and method; the paper's BTCV rows follow where that data set was run."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    scored: list[tuple[str, dict[str, Summary]]] = []
    missing: dict[str, list[tuple[str, str]]] = {}
    for dataset in sorted({run.record.dataset for run in frame.runs}):
        for name, method, runs in frame.cells():
            if name == dataset:
                rows.append(_row(frame, dataset, method, runs, scored, missing))
                notes += _dropped_notes(frame, runs, f"{unflagged(method)} on {dataset}")
        rows += _published(dataset, notes)
    small = reliability_notes([(where, summaries["Dice/pairs"]) for where, summaries in scored], digits=4)
    all_notes = small + _count_notes(scored) + missing_notes(missing) + notes
    return Table("table5", "Table 5 · Stability", CAPTION, COLUMNS, rows, all_notes)


def _row(
    frame: Frame,
    dataset: str,
    method: str,
    runs: list[Run],
    scored: list[tuple[str, dict[str, Summary]]],
    missing: dict[str, list[tuple[str, str]]],
) -> dict[str, Any]:
    draws = runs[0].record.draws
    row: dict[str, Any] = {"dataset": dataset, "method": method, "comparison": runs[0].comparison}
    row |= {"draws": draws, "seeds": ", ".join(str(run.record.seed) for run in runs)}
    row["convention"] = _RELEASED if _PAPER_ROW in frame.metrics(runs) else "strict" if draws > 1 else None
    summaries = {column.key: frame.agreement(runs, column.key) for column in METRIC_COLUMNS}
    for key, summary in summaries.items():
        row |= {
            key: _value(summary),
            f"{key}_interval": summary.interval,
            f"{key}_undefined": summary.undefined,
            f"{key}_why": summary.why,
        }
    row["cases"] = max(summary.cases + summary.excluded for summary in summaries.values())
    row["undefined"] = sum(summary.undefined for summary in summaries.values())
    row["identical"] = sum(summary.infinite for summary in summaries.values())
    where = f"{unflagged(method)} on {dataset}"
    scored.append((where, summaries))
    if draws < 2:
        missing.setdefault("Agreement of draws", []).append((where, "a single draw has nothing to agree with"))
    else:
        _collect_missing(where, runs, summaries, missing)
    return row


def _value(summary: Summary) -> float | None:
    return summary.mean if summary.cases else None


def _count_notes(scored: list[tuple[str, dict[str, Summary]]]) -> list[str]:
    notes = []
    for column in METRIC_COLUMNS:
        infinite = [(where, s[column.key]) for where, s in scored if s[column.key].infinite]
        undefined = [(where, s[column.key]) for where, s in scored if s[column.key].undefined]
        if infinite:
            counts = "; ".join(f"{where} {summary.infinite}" for where, summary in infinite)
            notes.append(f"{column.title} infinite (identical draws), values: {counts}.")
        if undefined:
            counts = "; ".join(undefined_note(where, summary) for where, summary in undefined)
            notes.append(f"{column.title} undefined: {counts}.")
    return notes


def _dropped_notes(frame: Frame, runs: list[Run], where: str) -> list[str]:
    if _PAPER_ROW not in frame.metrics(runs):
        return []
    dropped = {name: sum(one.rows(name)["value"].sum() for one in frame.run_scores(runs)) for name in _DROPPED}
    counts = ", ".join(f"{int(dropped[name])} {words}" for name, words in _DROPPED.items())
    return [f"{where}, as the release has it (sdseg), leaves out {counts}."]


def _collect_missing(
    where: str, runs: list[Run], summaries: dict[str, Summary], missing: dict[str, list[tuple[str, str]]]
) -> None:
    for key in (column.key for column in METRIC_COLUMNS):
        summary = summaries[key]
        if not summary.cases and not summary.infinite:
            title = {"Dice/pairs": "Dice pairs", "volume_cv": "Volume CV"}.get(key, key.split("/")[0])
            entry = (where, summary.why or reason(runs, key))
            if entry not in missing.setdefault(title, []):
                missing[title].append(entry)


def _published(dataset: str, notes: list[str]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for entry in read_ledger():
        if entry.table == "5" and same_dataset(dataset, entry.dataset):
            row = rows.setdefault(entry.method, published_row(dataset, entry, comparable=False))
            row[entry.metric] = entry.as_measured
            note = f"Published stability on {dataset}: not comparable: {entry.why}."
            if note not in notes:
                notes.append(note)
    return list(rows.values())
