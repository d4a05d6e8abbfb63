"""Fills the page template from frame, tables, figures and pictures."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.figures.style import Drawing
from reports.frame import Frame
from reports.provenance import commit, device, part, threads, versions
from reports.published import SDSEG_PAPER, Published, lint
from reports.rows import Run
from reports.site.pictures import Gallery
from reports.table import MISSING, Table, cell, number
from reports.variants import unflagged

_HERE = Path(__file__).parent
BESIDE = {
    "table2": "figure_accuracy",
    "ranking": "figure_ranking",
    "table4": "figure_cost",
    "figure3": "figure3",
}  # a table's figure
LEDGER_TITLES = {
    "2": "Table 2, Dice against segmentation networks",
    "3": "Table 3, Dice and IoU",
    "4": "Table 4, efficiency",
    "5": "Table 5, stability",
    "6": "Table 6, ablation",
}


def render_page(
    frame: Frame,
    tables: list[Table],
    drawings: list[Drawing],
    galleries: list[Gallery],
) -> str:
    """The whole page as HTML text; everything from the runs is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        css=(_HERE / "style.css").read_text(encoding="utf-8"),
        facts=_facts(frame),
        cautions=_cautions(frame),
        findings=_findings(tables),
        tables=[_table(table) for table in tables],
        figures=[_figure(drawing) for drawing in drawings],
        beside=BESIDE,
        galleries=galleries,
        ledger=_ledger(frame.ledger),
        runs=[_run(run) for run in frame.all_runs],
        warnings=frame.warnings,
        number=number,
    )


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


def _findings(tables: list[Table]) -> list[dict[str, str]]:
    table = next((table for table in tables if table.name == "table2"), None)
    if table is None:
        return []
    columns = {column.key: column for column in table.columns}
    ranked = next((table.rows for table in tables if table.name == "ranking"), [])
    findings = []
    for index, key in sorted(table.best()):
        row = table.rows[index]
        if key == "Dice":
            interval = cell(columns["Dice_interval"], row["Dice_interval"])
            findings.append(
                {
                    "dataset": row["dataset"],
                    "method": row["method"],
                    "value": cell(columns["Dice"], row["Dice"]),
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


def _table(table: Table) -> dict[str, Any]:
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
                "why": "" if row.get(column.key) is not None else row.get(f"{column.key}_why", ""),
            }
            for column in columns
        ]
        head, _, flag = cells[0]["text"].partition(" [")
        published = bool(row.get("published"))
        groups[-1]["rows"].append({"head": head, "flag": flag.rstrip("]"), "published": published, "cells": cells[1:]})
    headings = [{"text": column.heading, "is_text": column.key in words} for column in columns]
    return {"table": table, "headings": headings, "groups": groups, "grouped": grouped, "width": len(columns)}


def _figure(drawing: Drawing) -> dict[str, Any]:
    encoded = base64.b64encode(drawing.page_svg().encode("utf-8")).decode("ascii")
    return {"drawing": drawing, "uri": f"data:image/svg+xml;base64,{encoded}"}


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


def _run(run: Run) -> dict[str, Any]:
    record = run.record
    return {
        "run": run,
        "record": record,
        "commit": commit(record),
        "device": device(record),
        "threads": threads(record) or "unknown",
        "environment": json.dumps(record.environment, indent=1, sort_keys=True, ensure_ascii=False),
        "config": json.dumps(record.config, indent=1, sort_keys=True, ensure_ascii=False),
        "fit": json.dumps(record.fit, indent=1, sort_keys=True, ensure_ascii=False, default=str),
    }
