"""A folder of anybody's predictions, scored against a folder of references: a run without a model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from bench.datasets.masks.files import text_of
from bench.datasets.splitting import split_digest
from bench.device import resolve
from bench.errors import InputError
from bench.files import digest, strict_json
from bench.metrics import MASK_METRICS, METRICS
from bench.notes import heard
from bench.protocols import Protocol, build_protocol, protocol_settings
from bench.record import ALL_DRAWS, SCORED_FOLDER, RunRecord, spreadsheet_text
from bench.results.outputs import OutputFolder, check_apart
from bench.results.seals import seal
from bench.results.store import RunFolder
from bench.scoring.cases import Scored, open_lpips, score_cases
from bench.scoring.folder_inputs import FolderInputs, Reading, open_folders
from bench.scoring.folder_summary import summary_of
from bench.scoring.sanity import suspicions
from bench.scoring.workers import check_workers
from bench.sources import scoring_code

_CONVENTIONS = "conventions.parquet"
_FILES = ("scores.parquet", _CONVENTIONS, "scores.csv", "summary.json", "record.json")
_SCRATCH = ".sdseg-scoring"
_CSV_COLUMNS = ["case", "label", "draw", "metric", "value"]


def score_folder(
    pred: Path,
    ref: Path,
    out: Path,
    protocol: str = "strict",
    metrics: Sequence[str] | None = None,
    *,
    scores: Path | None = None,
    groups: Path | None = None,
    group_regex: str | None = None,
    size: int = 256,
    conventions: bool = False,
    method: str | None = None,
    dataset: str | None = None,
    seed: int = 0,
    workers: int = 1,
    **reading: Any,
) -> dict[str, Any]:
    """Score masks in `pred` (or in its sub-folders `draw-*`) against `ref`, paired by file stem.

    `scores` holds the soft scores behind the masks, in [0, 1], in files of the same stems and sub-folders (several
    labels: channels in the order of their ids). `metrics` are by default all that there is input for. `groups` (CSV:
    case, group) or `group_regex` says which cases belong together (a patient's), which every interval respects.

    A metric that the protocol has no rule for is the strict one; `convention` in scores.parquet and summary says so.
    `size` is the in-plane size in pixels of protocols that score at their network's. Once everything is scored, `out`
    is a run folder (scores.parquet, record.json, with `conventions` also conventions.parquet: the same masks under
    every protocol), with scores.csv and summary.json, which is returned. Its record is named by `method` (else by
    `out`), `dataset` (else by `ref` and its parent) and `seed`. `workers` processes score cases
    beside one another, with the same results (a script asks for several below `if __name__ == "__main__":`).

    `reading`: the fields of `folder_inputs.Reading`, which say how files are read and paired. Raises InputError, with
    no scores written, for files that are missing, too many, unreadable, on another grid or no masks, cases without a
    group, unknown protocols or metrics, and where `out` holds a file of such a name that is not an earlier call's.
    Cases scored before that, or before a kill, are not scored again.
    """
    check_workers(workers)
    rules = build_protocol(protocol, size)
    names = _metrics(rules, metrics, scores is not None)
    pred, ref, out = Path(pred), Path(ref), Path(out)
    check_apart(out, pred, ref, scores)
    output = OutputFolder(out)
    output.check(name for name in _FILES if conventions or name != _CONVENTIONS)
    how, paths = Reading(**reading), {"scores": scores and Path(scores), "groups": groups and Path(groups)}
    inputs = open_folders(pred, ref, how, group_regex=group_regex, **paths)
    config = {
        **_sides(how, pred, ref, scores, method, dataset, out.resolve().name),
        "protocol": protocol_settings(protocol, size),
        "seed": seed,
        "device": "auto",
        "profile_name": SCORED_FOLDER,
        "metrics": names,
        "draws": len(inputs.draws),
        "image_size": size,
    }
    scratch = out / _SCRATCH
    lpips, reason = open_lpips(resolve()) if len(inputs.draws) > 1 else (None, "")
    with heard() as heard_notes:
        what = list(inputs.references), inputs, inputs.labels, config, scratch, lpips
        scored = score_cases(*what, conventions, workers)
    notes = [*filter(None, [reason]), *heard_notes.lines(), *suspicions(scored.rows), *inputs.notes()]
    summary = _write(output, scored, inputs, config, notes, conventions)
    shutil.rmtree(scratch, ignore_errors=True)
    return summary


def _sides(
    how: Reading, pred: Path, ref: Path, scores: Path | None, method: str | None, dataset: str | None, name: str
) -> dict[str, Any]:
    """What is scored on what, as a configuration says it; without a method's name, other masks are another method."""
    files, where = {"root": str(pred), "scores": scores and str(scores)}, ref.resolve()
    data = {"name": dataset or f"{where.parent.name}/{where.name}", "root": str(ref), "reading": asdict(how)}
    return {
        "method": {"name": method or name, "options": {} if method else files},
        "predictions": files,
        "dataset": data,
    }


def _metrics(rules: Protocol, metrics: Sequence[str] | None, soft: bool) -> list[str]:
    """The names that are scored, by default all that masks, or `soft` scores too, are enough for."""
    names = list(METRICS if soft else MASK_METRICS) if metrics is None else list(metrics)
    asking = [metric.name for metric in rules.select(names) if metric.needs_score]
    if asking and not soft:
        raise InputError(f"metrics: {', '.join(asking)} needs soft scores, which masks do not hold; give --scores DIR")
    return names


def _write(
    output: OutputFolder,
    scored: Scored,
    inputs: FolderInputs,
    config: dict[str, Any],
    notes: list[str],
    conventions: bool,
) -> dict[str, Any]:
    folder = RunFolder(output.path, output.write)
    folder.write_scores(scored.rows)
    output.remove("conventions.csv")  # of an earlier version
    if conventions:
        folder.write_conventions(scored.conventions)
    else:
        output.remove(_CONVENTIONS)  # of other masks
    record = _record(folder, scored, inputs, config, notes)
    summary = summary_of(record, scored.rows, inputs.facts())
    with output.write("scores.csv") as part:
        _csv(scored.rows).to_csv(part, index=False)
    with output.write("summary.json") as part:
        part.write_text(strict_json(summary), encoding="utf-8")
    folder.write_record(record)  # marks a whole scoring, so it comes last
    return summary


def _record(
    folder: RunFolder, scored: Scored, inputs: FolderInputs, config: dict[str, Any], notes: list[str]
) -> RunRecord:
    split = split_digest(dict.fromkeys(inputs.references, "test"), inputs.groups)
    masks = {side: text_of(facts) for side, facts in inputs.facts()["masks"].items()}
    data = {"data": scored.data["references"], "split": split}
    return scored.record(
        config,
        {**data, "masks": masks["references"]},
        # What made the masks is not known: the hash is of what they answer.
        hash=digest([config["method"]["name"], config["dataset"]["name"], config["seed"], scored.labels, data]),
        code={"score": {"date": date.today().isoformat(), "codes": [scoring_code()]}},
        n_cases={"test": len(inputs.references)},
        files={"predictions": scored.predictions, **seal([folder.scores_path, folder.conventions_path], folder.path)},
        inference={"masks": masks["predictions"]},
        notes=notes,
    )


def _csv(rows: pd.DataFrame) -> pd.DataFrame:
    table = rows[_CSV_COLUMNS].astype({"draw": object})
    table.loc[rows["draw"] == ALL_DRAWS, "draw"] = ""
    return table.map(spreadsheet_text)
