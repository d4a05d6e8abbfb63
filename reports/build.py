"""Builds the report folder from run folders, and the tables for a terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from reports.against import NAME as AGAINST
from reports.against import against as compare
from reports.against import read_tables
from reports.figures import drawn_meanwhile
from reports.files import write_atomic
from reports.frame import REPORT_FOLDER, read_frame
from reports.manifest import Sealing
from reports.methods import NAME as METHODS
from reports.methods import methods_text
from reports.one_page import NAME as SUMMARY
from reports.one_page import render_summary
from reports.site.page import render_page
from reports.site.pictures import FOLDER
from reports.table import Table
from reports.tables import build_tables
from reports.writers import to_csv, to_latex, to_markdown, to_text

STAMP = "stamp.js"  # what a live page looks at
WRITERS = {"md": to_markdown, "csv": to_csv, "tex": to_latex}


@dataclass(frozen=True)
class ReportResult:
    """What was written, one line for everything that could not be read, and the tables for a terminal."""

    index: Path
    tables: list[Path]
    warnings: list[str]
    text: str


def build_report(
    runs_dir: Path,
    out_dir: Path | None = None,
    write: Callable[[Path, str | bytes], None] = write_atomic,
    published: Sequence[Path] = (),
    live: bool = False,
    only: Collection[Path] | None = None,
    against: Path | None = None,
) -> ReportResult:
    """Write tables, figures and the page for all runs under `runs_dir`, by default to `runs_dir`/report.

    `write` puts a file in its place, `published` are further ledgers; a `live` page loads itself anew once the report
    was made again. Of the runs found `only` these folders count, `against` is a report to tell the changes from.
    Unreadable runs become warnings; raises ValueError for a ledger that is broken or a report without tables, OSError
    where the output folder cannot be written.
    """
    out = out_dir or runs_dir / REPORT_FOLDER
    before = read_tables(against) if against else None  # which may be the folder that is written now
    frame = read_frame(runs_dir, published=published, only=only)
    sealing = Sealing(write, out)
    written = []
    with drawn_meanwhile(frame) as drawn:
        tables = build_tables(frame)
        for table in tables:
            for suffix, writer in WRITERS.items():
                written.append(out / f"{table.name}.{suffix}")
                sealing.write(written[-1], writer(table))
        drawings = drawn()
    for drawing in drawings:
        sealing.write(out / f"{drawing.name}.svg", drawing.svg)
        sealing.write(out / f"{drawing.name}.png", drawing.png)
    sealing.write(out / f"{METHODS}.md", methods_text(frame))
    sealing.write(out / SUMMARY, render_summary(frame, tables, drawings))
    index = out / "index.html"
    shown: set[str] = set()

    def keep(name: str, make: Callable[[], bytes]) -> None:
        # Its name says what a picture shows, so one that is there needs no drawing.
        if name not in shown and not (out / FOLDER / name).is_file():
            sealing.write(out / FOLDER / name, make())
        elif name not in shown:
            sealing.seal(out / FOLDER / name)
        shown.add(name)

    stamp = str(time.time_ns()) if live else ""
    sealing.write(index, render_page(frame, tables, drawings, keep, stamp))
    if live or (out / STAMP).is_file():
        write(out / STAMP, f'window.reportStamp("{stamp}");\n')
    _drop_pictures(out / FOLDER, shown)
    sealing.finish(frame, runs_dir, published, live)
    text = _text(tables, frame.warnings)
    if before is not None:
        changed = compare(read_tables(out), before, str(against))
        write(out / f"{AGAINST}.md", changed.markdown())
        text += f"\n{changed.text()}\n"
    return ReportResult(index, written, frame.warnings, text)


def _drop_pictures(folder: Path, shown: set[str]) -> None:
    """Remove what an earlier page showed; only files that are named as pictures are, by their content."""
    for path in folder.glob("*.*"):
        if path.name not in shown and re.fullmatch(r"[0-9a-f]{16}\.(png|webp|svg)", path.name):
            path.unlink(missing_ok=True)


def render_terminal(runs_dir: Path, runs: Sequence[Path] | None = None) -> str:
    """The tables as plain text of about 100 columns, for all runs or only the given run folders."""
    frame = read_frame(runs_dir, runs)
    return _text(build_tables(frame), frame.warnings)


def _text(tables: Sequence[Table], warnings: Sequence[str]) -> str:
    parts = [to_text(table) for table in tables if table.shown("terminal")]
    if warnings:
        parts.append("\n".join(f"warning: {line}" for line in warnings))
    return "\n\n".join(parts) + "\n"
