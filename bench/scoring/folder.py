"""Scores of a folder of anybody's predictions against a folder of references."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import progress
from bench.errors import InputError
from bench.files import strict_json
from bench.metrics import MASK_METRICS, METRICS, Metric
from bench.metrics.perceptual import undefined_reason
from bench.metrics.stability import stability_metrics
from bench.notes import heard
from bench.protocols import Protocol, build_protocol
from bench.protocols.gap import GapValue, case_values, gap_table
from bench.protocols.stability import stability_mode
from bench.record import ALL_DRAWS, SCHEMA_VERSION, SCORE_COLUMNS, spreadsheet_text
from bench.results.outputs import OutputFolder, check_apart
from bench.results.seals import seal
from bench.results.stored import StoredCase
from bench.scoring.folder_inputs import FolderInputs, Reading, open_folders
from bench.scoring.folder_summary import summarise
from bench.scoring.kept import CaseScores, kept
from bench.scoring.run import open_lpips, score_case
from bench.scoring.sanity import suspicions

_CONVENTIONS = "conventions.csv"
_FILES = ("scores.csv", "scores.parquet", "summary.json", _CONVENTIONS)
_SCRATCH = ".sdseg-scoring"
_CSV_COLUMNS = ["case", "label", "draw", "metric", "value"]


class _Scored(NamedTuple):
    """Score rows of all cases, facts for the summary, the cases' spacings, and their values under every protocol."""

    frame: pd.DataFrame
    facts: dict[str, Any]
    spacings: set[tuple[float, ...] | None]
    gap: list[GapValue]


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
    **reading: Any,
) -> dict[str, Any]:
    """Score masks in `pred` (or in its sub-folders `draw-*`) against `ref`, paired by file stem.

    `scores` holds the soft scores behind the masks, in [0, 1], in files of the same stems and sub-folders (several
    labels: channels in the order of their ids). `metrics` are by default all that there is input for. `groups` (CSV:
    case, group) or `group_regex` says which cases belong together (a patient's), which every interval respects.

    A metric that the protocol has no rule for is the strict one; `convention` in scores.parquet and summary says so.
    `size` is the in-plane size in pixels of protocols that score at their network's. Writes scores.csv, scores.parquet
    and summary.json into `out` once everything is scored, with `conventions` also conventions.csv (the same masks
    under every protocol), and returns the summary.

    `reading`: the fields of `folder_inputs.Reading`, which say how files are read and paired. How masks are read
    is decided once per folder, from all of its files, and stands in the summary under `masks`.

    Raises InputError, with no scores written, for missing or extra predictions, other grids and sizes,
    unreadable files, values that are no mask or no score, cases without a group, unknown protocols or metrics, and
    metrics that need a soft score, and where `out` holds a file of such a name that is not an earlier call's. Cases
    scored before that, or before a kill, are not scored again.
    """
    rules = build_protocol(protocol, size)
    names = list(MASK_METRICS if scores is None else METRICS) if metrics is None else list(metrics)
    chosen = rules.select(names)
    soft = [metric.name for metric in chosen if metric.needs_score]
    if soft and scores is None:
        raise InputError(f"metrics: {', '.join(soft)} needs soft scores, which masks do not hold; give --scores DIR")
    check_apart(out, pred, ref, scores)
    output = OutputFolder(Path(out))
    output.check(name for name in _FILES if conventions or name != _CONVENTIONS)
    paths = {"scores": scores and Path(scores), "groups": groups and Path(groups)}
    inputs = open_folders(Path(pred), Path(ref), Reading(**reading), group_regex=group_regex, **paths)
    scratch = output.path / _SCRATCH
    with heard() as notes:
        scored = _score(inputs, names, rules, size if conventions else None, scratch)
    scored.facts["notes"] += notes.lines() + suspicions(scored.frame)
    summary = _summary(inputs, rules, scored, _conventions(chosen, scored.spacings, protocol, inputs))
    _write(output, scored.frame, summary, gap_table(scored.gap, size=size) if conventions else None)
    shutil.rmtree(scratch, ignore_errors=True)
    return summary


def _summary(
    inputs: FolderInputs, rules: Protocol, scored: _Scored, facts: dict[str, dict[str, str]]
) -> dict[str, Any]:
    total, left_out = len(inputs.references) + inputs.left_out, inputs.left_out
    if left_out:
        scored.facts["notes"] += [f"{left_out} of {total} references have no prediction and are left out"]
    return {
        "protocol": rules.name,
        "rules": {"targets": rules.targets, "grid": rules.grid, "empty": rules.empty},
        "conventions": facts,
        "n_cases": len(inputs.references),
        **({"references_left_out": left_out} if left_out else {}),
        "n_groups": len(set(inputs.groups.values())),
        "draws": len(inputs.draws),
        "labels": list(inputs.labels),
        "masks": inputs.mask_facts(),
        **scored.facts,
        "metrics": summarise(scored.frame, facts),
    }


def _conventions(
    chosen: Sequence[Metric], spacings: set[tuple[float, ...] | None], protocol: str, inputs: FolderInputs
) -> dict[str, dict[str, str]]:
    """Convention, unit and direction of every metric on these cases."""
    found = {}
    for metric in chosen:
        unit = " or ".join(sorted({metric.unit_on(spacing) for spacing in spacings}))
        facts = {"convention": metric.convention, "unit": unit, "better": str(metric.better)}
        found[metric.name] = {**facts, **({"note": metric.note} if metric.note else {})}
    for over in stability_metrics(stability_mode(protocol)) if len(inputs.draws) > 1 else ():
        if inputs.scores or not over.name.endswith("/score"):
            found[over.name] = {
                "convention": over.convention,
                "unit": over.facts.unit,
                "better": str(over.facts.better),
            }
    return found


def _score(
    inputs: FolderInputs, metrics: list[str], protocol: Protocol, gap_size: int | None, scratch: Path
) -> _Scored:
    """Everything about all cases, one in memory at a time; no gap where `gap_size` is None.

    What a case has is kept in `scratch` by the content it was computed from.
    """
    repeated = len(inputs.draws) > 1
    lpips, reason = open_lpips() if repeated else (None, "")
    settings = (metrics, protocol.name, protocol.grid, gap_size, lpips is None, SCHEMA_VERSION)
    notes = {reason}
    rows: list[dict[str, Any]] = []
    gap: list[GapValue] = []
    spacings: set[tuple[float, ...] | None] = set()
    content = hashlib.sha256(repr(inputs.labels).encode())
    for done, stem in enumerate(inputs.references, 1):
        stored = inputs.read(stem)
        case = stored.case

        def score(stored: StoredCase = stored) -> CaseScores:
            values = score_case(stored, inputs.labels, metrics, lpips, protocol)
            return CaseScores(values, [] if gap_size is None else case_values(stored, size=gap_size))

        found = kept(scratch / f"{_digest(stored, inputs.labels, *settings)}.json", score)
        rows += found.rows
        gap += found.gap
        spacings.add(case.spacing_mm)
        content.update(repr((stem, case.reference.shape, case.spacing_mm)).encode())
        content.update(np.packbits(case.reference).tobytes())
        if repeated:
            notes.add(undefined_reason("MS-SSIM", *case.reference.shape[-2:]) or "")
        progress.report("scoring", done, len(inputs.references))
    frame = pd.DataFrame(rows, columns=SCORE_COLUMNS).astype({"value": float, "draw": int})
    facts = {
        "references": content.hexdigest(),
        "ids_without_reference": inputs.strangers(),
        "notes": sorted(notes - {""}),
    }
    return _Scored(frame, facts, spacings, gap)


def _digest(stored: StoredCase, *settings: Any) -> str:
    """sha256 of all that a case's scores depend on."""
    case = stored.case
    found = hashlib.sha256(
        repr((case.id, case.group, case.spacing_mm, stored.n_ignored, stored.masks.shape, settings)).encode()
    )
    for array in (np.packbits(case.reference), np.packbits(stored.masks), stored.scores):
        found.update(b"" if array is None else np.ascontiguousarray(array).data)
    return found.hexdigest()


def _write(output: OutputFolder, frame: pd.DataFrame, summary: dict[str, Any], gap: pd.DataFrame | None) -> None:
    table = frame[_CSV_COLUMNS].astype({"draw": object})
    table.loc[frame["draw"] == ALL_DRAWS, "draw"] = ""
    with output.write("scores.parquet") as part:
        frame.to_parquet(part, index=False)
    with output.write("scores.csv") as part:
        table.map(spreadsheet_text).to_csv(part, index=False)
    if gap is None:
        output.remove(_CONVENTIONS)  # of other masks
    else:
        with output.write(_CONVENTIONS) as part:
            gap.to_csv(part, index=False)
    summary["files"] = seal([output.path / "scores.parquet"], output.path)
    with output.write("summary.json") as part:
        part.write_text(strict_json(summary), encoding="utf-8")
