"""The scores of one case, kept in a file of their own until all cases have theirs: a kill loses one case."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench.files import write_json
from bench.protocols.gap import GapValue


class CaseScores(NamedTuple):
    """Score rows of a case, and its values under every protocol."""

    rows: list[dict[str, Any]]
    gap: list[GapValue]


def kept(path: Path, score: Callable[[], CaseScores]) -> CaseScores:
    """What is kept at `path`, or else what `score` returns, which is then kept there."""
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [{**row, "value": _number(row["value"])} for row in content["scores"]]
        return CaseScores(rows, [GapValue._make([*facts, _number(v)]) for *facts, v in content["conventions"]])
    found = score()
    # PSNR of identical draws is infinite, which strict JSON cannot hold as a number.
    rows = [{**row, "value": _plain(row["value"])} for row in found.rows]
    write_json(path, {"scores": rows, "conventions": [[*gap[:-1], _plain(gap.value)] for gap in found.gap]})
    return found


def _number(value: float | str | None) -> float:
    return math.nan if value is None else float(value)


def _plain(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)
