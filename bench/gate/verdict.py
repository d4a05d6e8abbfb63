"""What the gate says: a row per judgement, all of them as a table or as a comment on a pull request."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tabulate import tabulate

_HEADERS = ("run", "metric", "reference", "now", "allowed", "needs", "verdict")
# By it a bot finds its own comment again.
MARK = "<!-- sdseg gate -->"


@dataclass(frozen=True)
class Row:
    """What a rule says of a metric; `room` is the share of the allowance that is left.

    `needs` is the smallest setting of the section `gate` with which it would pass, such as "slower=1.13"; of two runs
    of the same code that is the noise. Where it stands: the run, the kind (`run` for what makes a run comparable) and
    the metric, which a rule leaves to `at`.
    """

    reference: str
    now: str
    allowed: str
    passed: bool
    reason: str = ""
    room: float = math.inf
    needs: str = ""
    run: str = ""
    kind: str = ""
    metric: str = ""

    @property
    def verdict(self) -> str:
        """`pass` or `FAIL`, and why."""
        return ("pass" if self.passed else "FAIL") + (f": {self.reason}" if self.reason else "")

    def at(self, run: str, kind: str, metric: str) -> Row:
        """The judgement in its place."""
        return replace(self, run=run, kind=kind, metric=metric)

    def cells(self) -> tuple[str, ...]:
        """What a table shows of it."""
        return self.run, self.metric, self.reference, self.now, self.allowed, self.needs, self.verdict


def failed(reason: str, reference: str = "", now: str = "") -> Row:
    """A verdict without a comparison."""
    return Row(reference, now, "", False, reason)


@dataclass(frozen=True)
class Verdict:
    """Every judgement, in order; passed where there is one and none failed. `left_out`: not judged, as asked.

    `accept` says what to do where a change is meant.
    """

    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    accept: str = ""

    @property
    def passed(self) -> bool:
        """Whether the gate opens."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def table(self, every: bool = False) -> str:
        """The rows that failed, and of each run and kind the one closest to its limit; all of them with `every`."""
        shown = [row for row in self.rows if every or not row.passed or row is self._closest(row)]
        table = tabulate([row.cells() for row in shown], _HEADERS, tablefmt="simple", disable_numparse=True)
        hidden = f", {len(self.rows) - len(shown)} passed ones not shown" if len(shown) < len(self.rows) else ""
        return "\n".join([table, self._sum() + hidden, *self._words()])

    def markdown(self) -> str:
        """A comment on a pull request: what failed and how to accept it, the closest of what passed folded away."""
        failing = [row for row in self.rows if not row.passed]
        closest = [row for row in self.rows if row.passed and row is self._closest(row)]
        parts = [MARK, f"### {self._sum()}", *self._words()]
        if failing:
            parts += [_pipes(failing), *([f"Meant? {self.accept}"] if self.accept else [])]
        if closest:
            parts.append(f"<details><summary>Closest to their limits</summary>\n\n{_pipes(closest)}\n\n</details>")
        return "\n\n".join(parts) + "\n"

    def _sum(self) -> str:
        count = sum(not row.passed for row in self.rows)
        return f"gate {'passed' if self.passed else 'FAILED'}: {len(self.rows)} judgements, {count} failed"

    def _words(self) -> list[str]:
        asked = [f"not judged (gate.without): {', '.join(self.left_out)}"] if self.left_out else []
        return asked + [f"note: {note}" for note in self.notes]

    def _closest(self, row: Row) -> Row:
        same = [other for other in self.rows if (other.run, other.kind) == (row.run, row.kind) and other.passed]
        return min(same, key=lambda other: other.room)


def _pipes(rows: list[Row]) -> str:
    cells = [[text.replace("|", "\\|") for text in row.cells()] for row in rows]
    return tabulate(cells, _HEADERS, tablefmt="github", disable_numparse=True)
