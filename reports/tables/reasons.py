"""Why a cell is empty, as far as the records say."""

from __future__ import annotations

from reports.frame import Run

# Words by which a note in a record speaks of a column.
WORDS = {
    "gflop_per_sample": ("flop",),
    "memory": ("memory", "rss", "peak"),
    "train_memory": ("train_peak", "training memory"),
    "latency": ("latency",),
    "samples_per_s": ("samples_per_s", "latency"),
    "parameters_m": ("parameter",),
}


def reason(runs: list[Run], metric: str) -> str:
    """The first note on a metric in the records of a row, or "" where none speaks of it."""
    words = WORDS.get(metric, (metric.split("/")[0].lower(),))
    for run in runs:
        for score in run.record.scores:
            if score.metric == metric and score.note:
                return score.note
    notes = [note for run in runs for note in run.record.notes]
    return next((note for note in notes if any(_speaks(note, word) for word in words)), "")


def missing_notes(missing: dict[str, list[tuple[str, str]]]) -> list[str]:
    """One line per column and reason from {column title: [(row name, reason)]}."""
    lines = []
    for title, found in missing.items():
        by_reason: dict[str, list[str]] = {}
        for name, why in found:
            by_reason.setdefault(why.rstrip("."), []).append(name)
        for why, names in by_reason.items():
            lines.append(f"{title} missing for {'; '.join(names)}: {why or 'the record gives no reason'}.")
    return lines


def _speaks(note: str, word: str) -> bool:
    text = note.lower()
    # "ssim" must not be found in "ms-ssim".
    return word in (text.replace("ms-ssim", "") if word == "ssim" else text)
