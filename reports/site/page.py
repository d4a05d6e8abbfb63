"""Fills the page template from frame, tables, figures and pictures."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.figures.style import Drawing
from reports.frame import Frame
from reports.provenance import commit, device, part, threads, versions
from reports.published import SDSEG_PAPER, Published, lint
from reports.rows import Row
from reports.site.data import as_script, digits_of, page_data, scored
from reports.site.pictures import FOLDER, Keep, draw_albums
from reports.site.views import Anchors, anchor, anchors, recorded, view
from reports.table import MISSING, Table, cell, number
from reports.variants import unflagged

_HERE = Path(__file__).parent
SCRIPTS = ("page.js", "cases.js", "viewer.js")  # one after the other
BESIDE = {
    "table2": "figure_accuracy",
    "ranking": "figure_ranking",
    "table4": "figure_cost",
    "figure3": "figure3",
}  # a table's figure
VERDICTS = {
    "verdicts": ("the paper's claims, measured here", "of its comparisons on the data sets of these runs"),
    "claims": ("the paper's gains, as printed", "of its printed gains, under an assumed spread"),
}
LEDGER_TITLES = {
    "2": "Table 2, Dice against segmentation networks",
    "3": "Table 3, Dice and IoU",
    "4": "Table 4, efficiency",
    "5": "Table 5, stability",
    "6": "Table 6, ablation",
}


def render_page(frame: Frame, tables: list[Table], drawings: list[Drawing], keep: Keep, stamp: str = "") -> str:
    """The whole page as HTML text, everything from the runs escaped; `keep` takes the pictures it shows.

    With a stamp it loads itself anew as soon as the file stamp.js beside it has another one.
    What could not be shown is added to the frame's warnings.
    """
    rows = [*frame.rows, *Frame(frame.points, ledger=[]).rows]
    digits = digits_of(tables)
    scores = [scored(row) for row in rows]
    albums = draw_albums(rows, keep, frame.warnings)
    views = [view(i, *parts, digits) for i, parts in enumerate(zip(rows, scores, albums, strict=True))]
    places = anchors(views, rows)
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        stamp=stamp,
        css=_text("style.css"),
        script="\n".join(_text(name) for name in SCRIPTS),
        cases_data=as_script(page_data(rows, scores, albums, digits)),
        runs_data=as_script(recorded(frame.all_runs)),
        facts=_facts(frame),
        cautions=_cautions(frame),
        findings=_findings(tables, places),
        verdicts=_verdicts(tables),
        index=_index(frame, rows, views),
        unfinished=frame.unfinished,
        tables=[_table(table, places) for table in tables],
        figures=[_figure(drawing, keep) for drawing in drawings],
        beside=BESIDE,
        views=views,
        folder=FOLDER,
        ledger=_ledger(frame.ledger),
        runs=frame.all_runs,
        warnings=frame.warnings,
        number=number,
    )


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _verdicts(tables: list[Table]) -> list[tuple[str, str, str, list[tuple[str, int]]]]:
    """Of the tables of verdicts: name, what it judges, by what, and how many have which verdict, the most first."""
    return [
        (table.name, *VERDICTS[table.name], Counter(row["verdict"] for row in table.rows).most_common())
        for table in sorted(tables, key=lambda table: table.name, reverse=True)
        if table.name in VERDICTS and table.rows
    ]


def _index(frame: Frame, rows: list[Row], views: list[dict[str, Any]]) -> dict[str, Any]:
    """Methods by data sets: of every pair the texts of its cell, each with the view it leads to."""
    cells: dict[tuple[str, str], list[tuple[str, str]]] = {}
    headline = next((name for name in ("Dice", "IoU") for row in rows if name in row.metrics), "")
    for row, of_row in zip(rows, views, strict=True):
        mean = next((line["mean"] for line in of_row["scores"] if line["metric"] == headline), MISSING)
        text = "scores" if mean == MISSING else mean
        cells.setdefault((of_row["method"], row.dataset), []).append((text, of_row["id"]))
    for run in frame.unfinished:
        cells.setdefault((run.method, run.dataset), []).append((run.done, ""))
    methods, datasets = (sorted({pair[at] for pair in cells}) for at in (0, 1))
    return {
        "headline": f"Mean {headline}" if headline else "What was scored",
        "datasets": datasets,
        "methods": [(method, [cells.get((method, dataset), []) for dataset in datasets]) for method in methods],
    }


def _facts(frame: Frame) -> list[tuple[str, list[str]]]:
    records = [run.record for run in frame.all_runs]
    facts = {
        "Data sets": [record.dataset for record in records],
        "Methods": [run.method for run in frame.runs],
        "Seeds": [str(record.seed) for record in records],
        "Profile": [record.profile for record in records],
        "Protocol": [record.protocol for record in records],
        "Draws per case": [str(record.draws) for record in records],
        "Commit": [commit(record) for record in records],
        "Device": [device(record) for record in records],
        "Threads": [str(threads(record) or "unknown") for record in records],
        "Versions": [versions(record) for record in records],
    }
    return [(name, sorted(set(values))) for name, values in facts.items()]


def _cautions(frame: Frame) -> list[str]:
    cautions, runs = [], frame.all_runs
    if any(run.record.profile == "smoke" for run in runs):
        cautions.append(
            "Runs of the smoke profile are tiny: they show that everything works end to end, not how good a method is."
        )
    if any(part(run.record, "git").get("dirty") for run in runs):
        cautions.append("Some runs were made from a modified working tree: their commit alone does not reproduce them.")
    if len({run.record.profile for run in runs}) > 1:
        cautions.append("Runs of more than one profile stand side by side: trained longer does not mean better method.")
    fidelities = {run.record.fidelity for run in runs}
    if "approximation" in fidelities:
        cautions.append("Methods marked “approximation” are smaller than the original or of incomplete specification.")
    if "variant" in fidelities:
        cautions.append("Methods marked “variant” are not the paper's: they came later or answer a question about it.")
    return cautions


def _findings(tables: list[Table], places: Anchors) -> list[dict[str, str]]:
    """The best mean Dice of every data set, from Table 2, or from Table 3 where it stands there alone."""
    ranked = next((table.rows for table in tables if table.name == "ranking"), [])
    findings: list[dict[str, str]] = []
    best = [
        (table, index)
        for table in tables
        if table.name in ("table2", "table3")
        for index, key in sorted(table.best())
        if key == "Dice"
    ]
    told: dict[str, str] = {}  # the table of a data set
    for table, index in best:
        columns, row = {column.key: column for column in table.columns}, table.rows[index]
        if told.setdefault(row["dataset"], table.name) == table.name:
            interval = cell(columns["Dice_interval"], row["Dice_interval"])
            findings.append(
                {
                    "dataset": row["dataset"],
                    "method": row["method"],
                    "value": cell(columns["Dice"], row["Dice"]),
                    "anchor": anchor(places, row, "Dice") or table.name,
                    "interval": "no interval" if interval == MISSING else f"95 % {interval}",
                    "cases": str(row["cases"]),
                    "tested": _tested([r for r in ranked if r["dataset"] == row["dataset"]], row["method"]),
                }
            )
    return findings


def _tested(ranked: list[dict[str, Any]], method: str) -> str:
    """What the ranking says of the first of a data set; nothing where there is more than one ranking of it."""
    if [row["method"] for row in ranked if row["verdict"] == "first"] != [method]:
        return ""
    by_verdict: dict[str, list[str]] = {}
    for row in ranked[1:]:
        by_verdict.setdefault(row["verdict"], []).append(unflagged(row["method"]))
    words = [f"first in {ranked[0]['p_first']:.0%} of the resamples"]
    for verdict, names in by_verdict.items():
        said = {"worse": "better than", "not shown": "not shown to differ from"}.get(verdict, f"{verdict} of")
        words.append(f"{said} {', '.join(names)}")
    return "; ".join(words)


def _table(table: Table, places: Anchors) -> dict[str, Any]:
    grouped = table.name != "table1"
    columns = [column for column in table.shown("page") if not (grouped and column.key == "dataset")]
    best, words = table.best(), {column.key for column in columns if table.is_text(column)}
    groups: list[dict[str, Any]] = []
    for index, row in enumerate(table.rows):
        group = row["dataset"] if grouped else ""
        if not groups or groups[-1]["name"] != group:
            groups.append({"name": group, "rows": []})
        cells: list[dict[str, Any]] = [
            {
                "text": cell(column, row.get(column.key)),
                "best": (index, column.key) in best,
                "is_text": column.key in words,
                "anchor": _leads_to(column.key not in words, row, column.key, places),
                "why": "" if row.get(column.key) is not None else row.get(f"{column.key}_why", ""),
            }
            for column in columns
        ]
        head, _, flag = cells[0]["text"].partition(" [")
        published = bool(row.get("published"))
        row_of_page = {"head": head, "flag": flag.rstrip("]"), "published": published, "cells": cells[1:]}
        groups[-1]["rows"].append({**row_of_page, "anchor": anchor(places, row, "")})
    headings = [{"text": column.heading, "is_text": column.key in words} for column in columns]
    return {"table": table, "headings": headings, "groups": groups, "grouped": grouped, "width": len(columns)}


def _figure(drawing: Drawing, keep: Keep) -> dict[str, Any]:
    content = drawing.page_svg().encode("utf-8")
    name = f"{hashlib.blake2b(content, digest_size=8).hexdigest()}.svg"
    keep(name, lambda: content)
    return {"drawing": drawing, "uri": f"{FOLDER}/{name}"}


def _ledger(ledger: list[Published]) -> dict[str, list[tuple[Published, list[str]]]]:
    """Entries by the seed paper's table or by source, each with what the lint says of it."""
    said: dict[Published, list[str]] = {}
    for finding in lint(ledger):
        for entry in finding.entries:
            said.setdefault(entry, []).append(f"{finding.kind}: {finding.text}")
    titled: dict[str, list[tuple[Published, list[str]]]] = {}
    for entry in ledger:
        title = LEDGER_TITLES[entry.table] if entry.source == SDSEG_PAPER else entry.source
        titled.setdefault(title, []).append((entry, said.get(entry, [])))
    return titled


def _leads_to(is_number: bool, row: dict[str, Any], key: str, places: Anchors) -> str:
    """What stands behind a number: its line and the runs of a measured row, the ledger of a published one."""
    if not is_number or row.get(key) is None:
        return ""
    return "published" if row.get("published") else anchor(places, row, key)
