"""What cannot be in a ledger: pairs of Dice and IoU that no items have, and rows that contradict each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from reports.published.ledger import Published

Kind = Literal["impossible", "derived", "contradicted"]


@dataclass(frozen=True)
class Finding:
    """Entries that together cannot be what they are called, and the sentence that says why."""

    kind: Kind
    entries: tuple[Published, ...]
    text: str


def lint(ledger: Iterable[Published]) -> list[Finding]:
    """Every finding, in the ledger's order.

    IoU = D/(2 - D) is convex in Dice, so that over the same items, with one rule for empty masks, the mean IoU is no
    less than that of the mean Dice (Jensen). "impossible": it is less, whatever was rounded away. "derived": it is
    equal as far as the digits show, as it is where all pixels are pooled or IoU is computed from the mean Dice.
    "contradicted": one source prints two values of one thing.
    """
    groups: dict[tuple[str, ...], list[Published]] = {}
    for entry in ledger:
        key = entry.source, entry.split, entry.dataset, entry.same_as or entry.method
        groups.setdefault(key, []).append(entry)
    return [finding for entries in groups.values() for finding in (*_pairs(entries), *_contradictions(entries))]


def _pairs(entries: list[Published]) -> Iterator[Finding]:
    for dice in (e for e in entries if e.metric == "Dice"):
        for iou in (e for e in entries if e.metric == "IoU" and (e.table, e.method) == (dice.table, dice.method)):
            least, most = (_iou(dice.as_measured + way * dice.rounding) for way in (-1, 1))
            pair = f"Dice {_shown(dice)} with IoU {_shown(iou)}"
            bound = f"{_iou(dice.as_measured) * (100 if iou.unit == '%' else 1):.2f}"
            if iou.as_measured + iou.rounding < least:
                text = f"{pair} cannot be means over the same items: IoU is at least {bound} there"
                yield Finding("impossible", (dice, iou), text)
            elif iou.as_measured - iou.rounding <= most:
                text = f"{pair} equals D/(2 - D) = {bound} as far as the digits show, like pooled or derived numbers"
                yield Finding("derived", (dice, iou), text)


def _contradictions(entries: list[Published]) -> Iterator[Finding]:
    for one, other in combinations(entries, 2):
        apart = abs(one.as_measured - other.as_measured)
        if one.metric == other.metric and apart > (one.rounding + other.rounding) * (1 + 1e-9):
            places = [f"{_shown(e)}{f' in Table {e.table}' if e.table else ''}" for e in (one, other)]
            yield Finding("contradicted", (one, other), f"{one.metric} is {' and '.join(places)}")


def _iou(dice: float) -> float:
    return dice / (2 - dice)


def _shown(entry: Published) -> str:
    return f"{entry.value:.{entry.digits}f}"
