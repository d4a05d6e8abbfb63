"""Is a report what its runs say? Every table made again and compared cell by cell, every file by its hash."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

from reports.build import build_report
from reports.manifest import MISSING, Manifest, differing, read_manifest, run_hashes, sha256

_TEXT = (".md", ".csv", ".tex", ".html", ".txt")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
_URI = re.compile(r"data:[\w/+.-]+;base64,[\w+/=]+")  # pictures are compared by their hash
_LONGEST = 60

Grid = list[list[str]]


class Difference(NamedTuple):
    """One thing that is not as the runs say: where it is, what is printed, what comes out today."""

    file: str
    row: str
    column: str
    printed: str
    recomputed: str

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.row, self.column) if part)
        return f"{self.file}: {place}: printed {_short(self.printed)}, recomputed {_short(self.recomputed)}"


@dataclass(frozen=True)
class Verdict:
    """All differences, and how many numbers in how many files were compared."""

    differences: list[Difference]
    numbers: int
    files: int


def verify_report(report: Path) -> Verdict:
    """Make the report anew from its runs and compare; ValueError where `report` is none."""
    manifest = read_manifest(report)
    differences = [*_sources(manifest)]
    numbers = 0
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "report"
        ledgers = [path for path in manifest.published if path.is_file()]
        build_report(manifest.runs_dir, made, published=ledgers, only=set(manifest.runs))
        again = read_manifest(made)
        names = sorted(manifest.files.keys() | again.files.keys())
        for name in names:
            differences += _file(name, report, made, manifest)
            if name.endswith(_TEXT) and (made / name).is_file():
                numbers += len(_NUMBER.findall(_URI.sub("", (made / name).read_text(encoding="utf-8"))))
    return Verdict(differences, numbers, len(names))


def _sources(manifest: Manifest) -> Iterator[Difference]:
    """Runs and ledgers that are not those that the report was made of."""
    for folder, sealed in manifest.runs.items():
        if not folder.is_dir():
            yield Difference(str(folder), "run folder", "", "there", MISSING)
            continue
        for name, before, today in differing(sealed, run_hashes(folder)):
            yield Difference(str(folder / name), "sha256", "", before, today)
    for path, sealed_hash in manifest.published.items():
        if (today := sha256(path)) != sealed_hash:
            yield Difference(str(path), "sha256", "", sealed_hash, today)


def _file(name: str, report: Path, made: Path, manifest: Manifest) -> Iterator[Difference]:
    """What differs in one file; a picture that today's libraries draw otherwise is still the one that was written."""
    printed, recomputed = report / name, made / name
    if not printed.is_file() or not recomputed.is_file():
        there = ["there" if path.is_file() else MISSING for path in (printed, recomputed)]
        yield Difference(name, "file", "", *there)
        return
    texts = []
    if name.endswith(_TEXT):
        for path in (printed, recomputed):
            text = path.read_text(encoding="utf-8", errors="replace")
            texts.append(_URI.sub("data:", text.replace(str(manifest.runs_dir), manifest.spelled)))
        cells = [*compare_texts(name, *texts)]
        yield from cells
        if cells:
            return
    sealed, today = manifest.files.get(name, MISSING), sha256(printed)
    if today != sealed:
        yield Difference(name, "sha256", "", today, sealed)


def compare_texts(name: str, printed: str, recomputed: str) -> Iterator[Difference]:
    """Cells that differ between two versions of one text file, rows that only one has."""
    one, two = _grid(name, printed), _grid(name, recomputed)
    for kind, a, b, c, d in SequenceMatcher(None, [*map(tuple, one)], [*map(tuple, two)], autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        pairs, gone, new = _aligned(one[a:b], two[c:d])
        for line, (old, row) in enumerate(pairs, c + 1):
            yield from _row(name, old, row, _heading(two, row), line)
        yield from (Difference(name, _named(row), "row", " | ".join(row), MISSING) for row in gone)
        yield from (Difference(name, _named(row), "row", MISSING, " | ".join(row)) for row in new)


def _aligned(printed: Grid, recomputed: Grid) -> tuple[list[tuple[list[str], list[str]]], Grid, Grid]:
    """Rows of the same name side by side, then the others in their order; and those that only one side has."""
    gone, new, pairs = list(printed), [], []
    for row in recomputed:
        same = next((old for old in gone if old[:2] == row[:2] and len(old) == len(row) > 2), None)
        if same is None:
            new.append(row)
        else:
            gone.remove(same)
            pairs.append((same, row))
    both = min(len(gone), len(new))
    return [*pairs, *zip(gone, new, strict=False)], gone[both:], new[both:]


def _row(name: str, printed: list[str], recomputed: list[str], heading: list[str], line: int) -> Iterator[Difference]:
    if len(printed) != len(recomputed) or len(printed) == 1:
        where = f"line {line}" if name.endswith(".html") else _named(recomputed)
        yield Difference(name, where, "", *_around(" | ".join(printed), " | ".join(recomputed)))
        return
    for index, (old, new) in enumerate(zip(printed, recomputed, strict=True)):
        if old != new:
            column = heading[index] if len(heading) == len(printed) else f"column {index + 1}"
            yield Difference(name, _named(recomputed), column, old, new)


def _around(printed: str, recomputed: str) -> tuple[str, str]:
    """Two long lines from shortly before the first character that differs."""
    pairs = enumerate(zip(printed, recomputed, strict=False))
    first = next((i for i, (a, b) in pairs if a != b), min(len(printed), len(recomputed)))
    start = max(0, first - _LONGEST // 3)
    return printed[start:], recomputed[start:]


def _grid(name: str, text: str) -> Grid:
    """Cells by line; a line that is no row of a table is one cell."""
    if name.endswith(".csv"):
        return list(csv.reader(io.StringIO(text)))
    if name.endswith(".md"):
        lines = text.splitlines()
        return [re.split(r"(?<!\\)\|", line)[1:-1] if line.startswith("|") else [line] for line in lines]
    if name.endswith(".tex"):
        return [re.split(r"(?<!\\)&", line) for line in text.splitlines()]
    return [[line] for line in text.splitlines()]


def _heading(grid: Grid, row: list[str]) -> list[str]:
    """The first row as wide as this one."""
    return next(([cell.strip() for cell in one] for one in grid if len(one) == len(row)), [])


def _named(row: list[str]) -> str:
    return " ".join(_short(cell.strip()) for cell in row[:2])


def _short(text: str) -> str:
    text = " ".join(text.split()) or "nothing"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
