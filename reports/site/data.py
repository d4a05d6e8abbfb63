"""What the page's scripts work on: every case with its scores as printed, by columns, and which pictures there are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from bench.record import REASON
from bench.scores import Summary
from reports.rows import Row
from reports.site.pictures import Album, Scene, Shot
from reports.table import Table, number
from reports.variants import unflagged

DIGITS = 3
_PER_IMAGE = "images/"  # how many images a value speaks of, no score


def digits_of(tables: Iterable[Table]) -> dict[str, int]:
    """The digits of every metric that has a column in a table."""
    return {column.key: column.digits for table in tables for column in table.columns}


class Scored(NamedTuple):
    """A metric of a row: its name on the page, which says the convention where there are several, and its values."""

    name: str
    metric: str
    convention: str
    summary: Summary


def digits_for(one: Scored, digits: dict[str, int]) -> int:
    """Those of its column; a table counts the cases of which each has 0 or 1 here."""
    return DIGITS if one.summary.facts.kind == "count" else digits.get(one.metric, DIGITS)


def scored(row: Row) -> list[Scored]:
    """Every metric of a row, once a convention; of single draws, or of all together where it speaks of those."""
    listed = []
    for metric in sorted(metric for metric in row.metrics if not metric.startswith(_PER_IMAGE)):
        single = row.by_convention([metric])
        listed += [Scored(metric + one.suffix, metric, one.convention or "", one.summary(metric)) for one in single]
        if not single:
            listed.append(Scored(metric, metric, "", row.agreement(metric)))
    return listed


def page_data(
    rows: Sequence[Row], scores: Sequence[Sequence[Scored]], albums: Sequence[Album], digits: dict[str, int]
) -> dict[str, Any]:
    """Data sets with their cases, rows with a column per metric, scenes, and the facts of metrics; see cases.js."""
    cases: dict[str, dict[str, int]] = {}
    scenes: dict[Scene, int] = {}
    content = []
    for row, of_row, album in zip(rows, scores, albums, strict=True):
        known = cases.setdefault(row.dataset, {})
        names = pd.Index(sorted({*album.shots}.union(*(one.summary.every.index for one in of_row))), dtype=object)
        places = [known.setdefault(name, len(known)) for name in names]
        values = {one.name: _column(one, names, digits_for(one, digits)) for one in of_row}
        shots = {known[case]: _shot(shot, scenes) for case, shot in album.shots.items()}
        about = {"dataset": row.dataset, "method": unflagged(row.method), "seeds": row.seeds, "labels": album.labels}
        content.append({**about, "cases": places, "values": values, "why": _reasons(row, known), "shots": shots})
    return {
        "metrics": {one.name: _facts(one, digits) for of_row in scores for one in of_row},
        "cases": {dataset: list(names) for dataset, names in cases.items()},
        "groups": {dataset: _groups(rows, dataset, names) for dataset, names in cases.items()},
        "rows": content,
        "scenes": [_scene(scene) for scene in scenes],
    }


def as_script(content: Any) -> str:
    """JSON that nothing in it can end a script element with."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _facts(one: Scored, digits: dict[str, int]) -> dict[str, Any]:
    facts = one.summary.facts
    return {"unit": facts.unit, "better": facts.better, "digits": digits_for(one, digits)}


def _column(one: Scored, names: pd.Index, digits: int) -> list[float | str | None]:
    return [_printed(value, digits) for value in one.summary.every.reindex(names).tolist()]


def _printed(value: float, digits: int) -> float | str | None:
    """A value as a table prints it, as a number where that keeps its digits; None where it is undefined."""
    if math.isnan(value):
        return None
    text = number(value, digits)
    fixed = value == 0 or 0.5 * 10.0**-digits <= abs(value) < math.inf
    return float(text.replace(",", "")) if fixed else text


def _reasons(row: Row, known: dict[str, int]) -> dict[str, dict[int, str]]:
    """Of every metric why a case has no value, where somebody said."""
    reasons: dict[str, dict[int, str]] = {}
    for scores in row.scores:
        undefined = scores.undefined()
        if REASON not in undefined:
            continue
        for metric, case, why in undefined[["metric", "case", REASON]].drop_duplicates().itertuples(index=False):
            if why and case in known:
                reasons.setdefault(str(metric), {}).setdefault(known[case], str(why))
    return reasons


def _groups(rows: Sequence[Row], dataset: str, names: dict[str, int]) -> list[str] | None:
    """The group of every case; None where each is one of its own."""
    groups: dict[str, str] = {}
    for scores in (scores for row in rows if row.dataset == dataset for scores in row.scores):
        if len(groups) < len(names):
            groups |= {str(case): str(group) for case, group in scores.groups.items()}
    listed = [groups.get(name, name) for name in names]
    return None if listed == list(names) else listed


def _scene(scene: Scene) -> list[Any]:
    place = [scene.width, scene.height, scene.slices, scene.columns, scene.first, scene.opening]
    return [scene.image, scene.reference, scene.said, *place]


def _shot(shot: Shot, scenes: dict[Scene, int]) -> list[Any]:
    at = scenes.setdefault(shot.scene, len(scenes))
    return [at, shot.prediction, shot.disagreement, shot.said, shot.agreement, shot.seed]
