"""Table 5: how far repeated draws of one case agree, on masks (Seg) and on score maps (Score)."""

from __future__ import annotations

from typing import Any, Literal

from bench.scores import Summary
from reports.frame import Frame
from reports.published import numbers_of_paper, published_rows
from reports.rows import Row, beside, cells_of, plain
from reports.summary import Missing, counts, missing_notes, reason, reliability_notes
from reports.table import Column, Level, Table

_IMAGE: tuple[tuple[str, str, Literal["higher", "lower"], int], ...] = (
    ("LPIPS", "", "lower", 4),
    ("PSNR", "dB", "higher", 2),
    ("SSIM", "", "higher", 4),
    ("MS-SSIM", "", "higher", 4),
)
_RANKED = ("comparison", "draws")
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


# The terminal has room for one of the two maps.
_LEVELS: dict[str, Level] = {"seg": "page", "score": "terminal"}
METRIC_COLUMNS = [
    *(
        Column(f"{name}/{part}", f"{name} {part.capitalize()}", unit, better, digits, level, _RANKED)
        for name, unit, better, digits in _IMAGE
        for part, level in _LEVELS.items()
    ),
    Column("Dice/pairs", "Dice pairs", "", "higher", 4, "terminal", _RANKED),
    Column("flip_rate", "Flip rate", "", "lower", 4, "terminal", _RANKED),
    Column("volume_cv", "Volume CV", "", "lower", 4, "page", _RANKED),
]
COLUMNS = [
    *plain(dataset="terminal", method="terminal", convention="page"),
    *METRIC_COLUMNS,
    *plain(draws="page", cases="terminal", undefined="terminal", identical="page", seeds="csv"),
    *beside(METRIC_COLUMNS, "interval"),
    *beside(METRIC_COLUMNS, "undefined"),
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
    missing: Missing = {}
    ledger = numbers_of_paper(frame.ledger, ["5"])
    for dataset, members in frame.by_dataset():
        for member in members:
            summaries = {column.key: member.agreement(column.key) for column in METRIC_COLUMNS}
            rows.append(_row(member, summaries))
            scored.append((member.where, summaries))
            _collect_missing(member, summaries, missing)
            notes += _dropped_notes(member)
        rows += published_rows(dataset, ledger, notes, "Published stability")
    small = reliability_notes([(where, summaries["Dice/pairs"]) for where, summaries in scored], digits=4)
    all_notes = small + _count_notes(scored) + missing_notes(missing) + notes
    return Table("table5", "Table 5 · Stability", CAPTION, COLUMNS, rows, all_notes)


def _row(row: Row, summaries: dict[str, Summary]) -> dict[str, Any]:
    convention = _RELEASED if _PAPER_ROW in row.metrics else "strict" if row.record.draws > 1 else None
    identical = sum(summary.infinite for summary in summaries.values())
    return row.fill([]) | cells_of(summaries) | {"convention": convention, "identical": identical}


def _count_notes(scored: list[tuple[str, dict[str, Summary]]]) -> list[str]:
    notes = []
    for column in METRIC_COLUMNS:
        undefined, infinite = counts(scored, column.key)
        notes += [f"{column.title} infinite (identical draws), values: {infinite}."] if infinite else []
        notes += [f"{column.title} undefined: {undefined}."] if undefined else []
    return notes


def _dropped_notes(row: Row) -> list[str]:
    if _PAPER_ROW not in row.metrics:
        return []
    dropped = {name: sum(one.rows(name)["value"].sum() for one in row.scores) for name in _DROPPED}
    numbers = ", ".join(f"{int(dropped[name])} {words}" for name, words in _DROPPED.items())
    return [f"{row.where}, as the release has it (sdseg), leaves out {numbers}."]


def _collect_missing(row: Row, summaries: dict[str, Summary], missing: Missing) -> None:
    if row.record.draws < 2:
        why = "a single draw has nothing to agree with"
        missing.setdefault("Agreement of draws", []).append((row.where, why))
        return
    for key, summary in summaries.items():
        if not summary.cases and not summary.infinite:
            title = {"Dice/pairs": "Dice pairs", "volume_cv": "Volume CV"}.get(key, key.split("/")[0])
            entry = (row.where, summary.why or reason(row.runs, key))
            if entry not in missing.setdefault(title, []):
                missing[title].append(entry)
