"""Printed numbers as files: where each stands, how far it was rounded, and whether ours may be compared with it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SDSEG_PAPER = "SDSeg, MICCAI 2024"
_FOLDER = Path(__file__).parent
LEDGER = _FOLDER / "sdseg_paper.csv"
COLUMNS = ("value", "dataset", "method", "metric")  # every file has these; the other fields of `Published` may follow

_SHARES = ("Dice", "IoU")


@dataclass(frozen=True)
class Published:
    """One printed number; `printed` is its text in the paper, `value` the number meant by it, `digits` its decimals.

    `comparable` holds only for runs under `protocol`; `why` gives the reason for a yes as for a no. `table` is one of
    the seed paper's. `same_as` names the method that this row shows once more, under another name.
    """

    value: float
    printed: str
    digits: int
    unit: str
    table: str
    dataset: str
    method: str
    metric: str
    n: int | None
    protocol: str
    comparable: bool
    why: str
    source: str
    split: str
    same_as: str

    @property
    def as_measured(self) -> float:
        """The value in the unit that measured scores have (percent becomes a fraction)."""
        return self.value / self._hundred

    @property
    def rounding(self) -> float:
        """How far the number meant may lie from `as_measured`: half a unit of the last printed digit."""
        return 0.5 * 10.0**-self.digits / self._hundred

    @property
    def _hundred(self) -> int:
        return 100 if self.unit == "%" else 1

    def comparable_with(self, protocol: str) -> bool:
        """Whether a run under a protocol may be set against this number."""
        return self.comparable and self.protocol == protocol


def read_ledger(path: Path = LEDGER) -> list[Published]:
    """Read a ledger; raises ValueError naming file and line where an entry is broken."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or [])]:
                raise ValueError(f"{path}: no column {missing[0]}; a ledger has {', '.join(COLUMNS)} at least")
            return [_entry(row, path, line) for line, row in enumerate(reader, start=2)]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a ledger that can be read ({error})") from error


def read_ledgers(more: Iterable[Path] = ()) -> list[Published]:
    """The entries of this folder's ledgers, the SDSeg paper's first, and of `more`."""
    files = sorted(_FOLDER.glob("*.csv"), key=lambda path: (path != LEDGER, path.name))
    own = [entry for path in files for entry in read_ledger(path)]
    names = {entry.metric.casefold(): entry.metric for entry in own}
    return own + [_named(entry, path, names) for path in more for entry in read_ledger(path)]


def _named(entry: Published, path: Path, names: Mapping[str, str]) -> Published:
    """The entry; a metric in other letters than the tables' own would be left out there without a word."""
    if (name := names.get(entry.metric.casefold(), entry.metric)) != entry.metric:
        raise ValueError(f"{path}: {entry.method}: metric {entry.metric!r} is written {name!r}")
    return entry


def numbers_of_paper(ledger: Iterable[Published], tables: Sequence[str]) -> list[Published]:
    """What the SDSeg paper prints in some of its tables."""
    return [entry for entry in ledger if entry.source == SDSEG_PAPER and entry.table in tables]


def same_dataset(ours: str, published: str) -> bool:
    """Whether a configured data set (say `btcv/organs`) is the one a ledger entry names."""
    return ours.split("/", 1)[0] == published


def _entry(row: dict[str, str], path: Path, line: int) -> Published:
    def text(key: str, default: str = "") -> str:
        return (row.get(key) or default).strip()

    try:
        value = text("value")
        entry = Published(
            value=float(value),
            printed=text("printed", value),
            digits=len(value.partition(".")[2]),
            unit=text("unit"),
            table=text("table"),
            dataset=text("dataset"),
            method=text("method"),
            metric=text("metric"),
            n=int(row["n"]) if row.get("n") else None,
            protocol=text("protocol"),
            comparable={"yes": True, "no": False}[text("comparable", "no")],
            why=text("why"),
            source=text("source", SDSEG_PAPER if path == LEDGER else path.stem),
            split=text("split"),
            same_as=text("same_as"),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        reason = f"{error}; value and n are numbers, comparable is yes or no"
        raise ValueError(f"{path}, line {line}: not a ledger entry ({reason})") from error
    if entry.metric in _SHARES and not 0 <= entry.as_measured <= 1:
        printed = f"{entry.metric} {value} {entry.unit}".strip()
        raise ValueError(
            f"{path}, line {line}: {printed} is not within 0 and 1; a percentage has the unit %, up to 100"
        )
    return entry
