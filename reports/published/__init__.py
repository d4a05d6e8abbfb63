"""The numbers the SDSeg paper prints, as a ledger: where each stands and whether ours may be compared."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEDGER = Path(__file__).with_name("sdseg_paper.csv")


@dataclass(frozen=True)
class Published:
    """One printed number; `printed` is its text in the paper, `value` the number meant by it.

    `comparable` holds only for runs under `protocol`; `why` gives the reason for a yes as for a no.
    """

    value: float
    printed: str
    unit: str
    table: str
    dataset: str
    method: str
    metric: str
    n: int | None
    protocol: str
    comparable: bool
    why: str

    @property
    def as_measured(self) -> float:
        """The value in the unit that measured scores have (percent becomes a fraction)."""
        return self.value / 100 if self.unit == "%" else self.value

    def comparable_with(self, protocol: str) -> bool:
        """Whether a run under a protocol may be set against this number."""
        return self.comparable and self.protocol == protocol


def read_ledger(path: Path = LEDGER) -> list[Published]:
    """Read a ledger; raises ValueError naming file and line where an entry is broken."""
    with path.open(newline="", encoding="utf-8") as file:
        return [_entry(row, f"{path}, line {line}") for line, row in enumerate(csv.DictReader(file), start=2)]


def published_rows(
    dataset: str,
    entries: Iterable[Published],
    notes: list[str],
    what: str = "Published",
    protocols: Collection[str] = (),
) -> list[dict[str, Any]]:
    """A flagged row for every method that the entries have on a data set, out of every ranking.

    A number is comparable where runs have these `protocols` and no others; the reasons of the flags go to `notes`.
    """
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if same_dataset(dataset, entry.dataset) and entry.metric not in rows.get(entry.method, {}):
            flag = "not comparable"
            if protocols and all(entry.comparable_with(protocol) for protocol in protocols):
                flag = "comparable"
            row = {"dataset": dataset, "method": f"{entry.method} [published, {flag}]", "published": True}
            row = rows.setdefault(entry.method, {**row, "protocol": entry.protocol})
            # "~48" is not 48.000
            row[entry.metric] = entry.printed if entry.printed.startswith("~") else entry.as_measured
            if protocols:
                row["cases"] = entry.n
            note = f"{what} on {dataset}: {flag}: {entry.why}."
            if note not in notes:
                notes.append(note)
    return list(rows.values())


def same_dataset(ours: str, published: str) -> bool:
    """Whether a configured data set (say `btcv/organs`) is the one a ledger entry names."""
    return ours.split("/", 1)[0] == published


def _entry(row: dict[str, str], where: str) -> Published:
    try:
        return Published(
            value=float(row["value"]),
            printed=row["printed"] or row["value"],
            unit=row["unit"],
            table=row["table"],
            dataset=row["dataset"],
            method=row["method"],
            metric=row["metric"],
            n=int(row["n"]) if row["n"] else None,
            protocol=row["protocol"],
            comparable={"yes": True, "no": False}[row["comparable"]],
            why=row["why"],
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: not a ledger entry ({error!r})") from error
