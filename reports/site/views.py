"""What the page says of every method on every data set: scores, cost, what is missing, the runs behind the numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from bench.record import Score
from reports.provenance import commit, device, threads, versions
from reports.rows import Row, Run
from reports.site.data import DIGITS, Scored, digits_for
from reports.site.pictures import Album
from reports.table import Column, cell, number

Anchors = dict[tuple[str, str], dict[tuple[str, str], str]]  # by data set and method: (metric, convention) to an id


def view(index: int, row: Row, scores: Sequence[Scored], album: Album, digits: dict[str, int]) -> dict[str, Any]:
    """One method on one data set as the page shows it."""
    head, _, flag = row.method.partition(" [")
    name = f"m{index}"
    return {
        "id": name,
        "index": index,
        "dataset": row.dataset,
        "method": head,
        "flag": flag.rstrip("]"),
        "seeds": row.seeds,
        "scores": [_score(name, one, digits_for(one, digits)) for one in scores],
        "cost": _cost(name, row.runs, digits),
        "missing": missing(row, scores, album),
        "runs": [_run(run) for run in row.runs],
        "album": album,
    }


def anchors(views: Sequence[dict[str, Any]], rows: Sequence[Row]) -> Anchors:
    """Where the page says what stands behind a number of a table."""
    return {
        (row.dataset, row.method): {
            **{(line["metric"], ""): line["id"] for line in reversed([*view["scores"], *view["cost"]])},
            **{(line["metric"], line["convention"]): line["id"] for line in view["scores"]},
            ("", ""): view["id"],
        }
        for view, row in zip(views, rows, strict=True)
    }


def anchor(places: Anchors, row: dict[str, Any], key: str) -> str:
    """The id of what stands behind a cell; that of the row's runs for what a table works out itself, "" without any."""
    of_row = places.get((row.get("dataset", ""), row.get("method", "")), {})
    metric = re.sub(r"_(interval|sd|undefined)$", "", key)
    convention = row.get("convention") or ""
    return of_row.get((metric, convention)) or of_row.get((metric, "")) or of_row.get(("", ""), "")


def missing(row: Row, scores: Sequence[Scored], album: Album) -> list[str]:
    """What a reader might look for and not find, with the reason where there is one."""
    lines = [f"Seed {run.record.seed}: no score rows, only run-level scores." for run in row.runs if run.scores is None]
    for one in scores:
        if one.summary.undefined:
            why = f": {one.summary.why}" if one.summary.why else ""
            lines.append(f"{one.name}: {one.summary.undefined:,} undefined values{why}.")
    for score in (score for run in row.runs for score in run.record.scores):
        if score.value != score.value:
            lines.append(f"{score.metric}: {score.note or 'the record gives no reason'}.")
    if not album.shots:
        lines.append("Pictures: no run has a gallery.")
    failed = {name for run in row.runs for name, outcome in run.record.benchmarks.items() if outcome == "failed"}
    lines += [f"Benchmark {name}: failed." for name in sorted(failed)]
    return list(dict.fromkeys(lines))


def _score(view: str, one: Scored, digits: int) -> dict[str, Any]:
    summary, facts = one.summary, one.summary.facts
    shown = Column(one.metric, one.metric, digits=digits)
    estimate = summary.estimate if summary.interval else None
    about = [facts.unit, f"{facts.better} is better" if facts.better != "none" else ""]
    if facts.kind == "count":
        about.append(f"{number(summary.count, 1)} in all")
    return {
        "id": f"{view}-{_slug(one.name)}",
        "metric": one.metric,
        "name": one.name,
        "convention": one.convention,
        "about": ", ".join(filter(None, about)),
        "note": facts.note,
        "mean": cell(shown, summary.mean if summary.cases or summary.infinite else None),
        "interval": cell(shown, summary.interval),
        "sd": cell(shown, summary.sd),
        "cases": summary.cases,
        "groups": summary.units,
        "undefined": summary.undefined,
        "how": estimate.method if estimate else "",
    }


def _cost(view: str, runs: Sequence[Run], digits: dict[str, int]) -> list[dict[str, Any]]:
    """The run-level scores by metric, a value for every seed."""
    by_metric: dict[str, list[tuple[int, Score]]] = {}
    for run in runs:
        for score in run.record.scores:
            by_metric.setdefault(score.metric, []).append((run.record.seed, score))
    return [
        {
            "id": f"{view}-run-{_slug(metric)}",
            "metric": metric,
            "unit": scores[0][1].unit,
            "values": [(seed, _measured(score, digits)) for seed, score in scores],
            "note": scores[0][1].note,
        }
        for metric, scores in by_metric.items()
    ]


def _measured(score: Score, digits: dict[str, int]) -> str:
    whole = not score.unit and score.value == round(score.value, 0)
    return number(score.value, 0 if whole else digits.get(score.metric, DIGITS))


def _run(run: Run) -> dict[str, Any]:
    record = run.record
    return {
        "run": run,
        "record": record,
        "commit": commit(record),
        "device": device(record),
        "threads": threads(record) or "unknown",
        "versions": versions(record),
    }


def recorded(runs: Sequence[Run]) -> dict[str, Any]:
    """Configuration, training and environment of runs by hash; sections that runs share are kept once."""
    texts: dict[str, int] = {}
    by_hash = {}
    for run in runs:
        parts = {
            "Configuration": run.record.config,
            "Training": run.record.fit,
            "Inference": run.record.inference,
            "Environment": run.record.environment,
        }
        by_hash[run.record.hash] = {
            title: {key: texts.setdefault(_text(value), len(texts)) for key, value in part.items()}
            for title, part in parts.items()
        }
    return {"runs": by_hash, "texts": list(texts)}


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=str)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text)
