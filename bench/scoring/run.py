"""The third step: stored predictions and references to score rows, gallery and record."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch

from bench import progress
from bench.config import Cell
from bench.metrics import Metric, plugin_code
from bench.metrics.lpips_distance import Lpips
from bench.metrics.lpips_trunk import LpipsUnavailable, load_trunk
from bench.metrics.stability import Mode, stability_metrics
from bench.protocols import PROTOCOLS, STRICT, Protocol, build_protocol
from bench.protocols.gap import GAP_METRICS, GapValue, case_values, gap_table
from bench.protocols.stability import protocol_stability, stability_mode
from bench.record import ALL_DRAWS, REASON, SCHEMA_VERSION, SCORE_COLUMNS, MetricFacts, RunRecord, Score
from bench.results.environment import environment_facts, folder_revision, machine, revision
from bench.results.identity import digest, run_identity
from bench.results.reuse import note_step
from bench.results.store import RunFolder
from bench.results.stored import StoredCase, read_case
from bench.scores import RunScores, mean_defined
from bench.scoring.card import write_card
from bench.scoring.gallery import write_gallery
from bench.scoring.kept import CaseScores, kept
from bench.scoring.sanity import suspicions
from bench.sources import outside_folder, scoring_code
from bench.types import Dataset


def scoring_device() -> torch.device:
    """Where draws are compared: the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_lpips() -> tuple[Lpips | None, str]:
    """LPIPS with the true trunk, or None and the reason why its column stays empty."""
    try:
        return Lpips(load_trunk(), scoring_device()), ""
    except LpipsUnavailable as error:
        return None, f"LPIPS not computed: {error}"


def score_case(
    stored: StoredCase,
    labels: tuple[str, ...],
    metrics: list[str],
    lpips: Lpips | None,
    protocol: Protocol = STRICT,
) -> list[dict[str, Any]]:
    """Score rows of one case: every metric per draw and label, and the agreement over draws.

    Undefined values are NaN and stay rows, with their reason. A metric that the protocol has no rule for is the strict
    one, and its row says so; where the protocol scores slices, the row is the mean of those defined.
    """
    case, chosen = stored.case, protocol.select(metrics)
    rows: list[dict[str, Any]] = []

    def add(label: int, draw: int, metric: str, convention: str, value: float) -> None:
        row = (case.id, case.group, labels[label], draw, metric, convention, value)
        rows.append(dict(zip(SCORE_COLUMNS, row, strict=True)) | {REASON: getattr(value, "reason", "")})

    for draw, label, pair in stored.pairs():
        for metric, values in zip(chosen, protocol.values(pair, chosen), strict=True):
            add(label, draw, metric.name, metric.convention, mean_defined(values))
    device = lpips.device if lpips else scoring_device()
    over_draws = protocol_stability(protocol, case.reference, stored.scores, stored.masks, lpips, device)
    size = case.reference[0].size
    for label, name, convention, value in over_draws:
        # The only share of elements among them: of those that count.
        if name == "flip_rate" and 0 < stored.n_ignored < size:
            value *= size / (size - stored.n_ignored)
        add(label, ALL_DRAWS, name, convention, value)
    return rows


def metric_facts(
    metrics: Sequence[Metric], spacing_mm: tuple[float, ...] | None, mode: Mode | None
) -> dict[str, MetricFacts]:
    """For the record, by name: metrics of single draws on cases of this spacing, and over draws in a mode, if any."""
    over_draws = stability_metrics(mode) if mode else ()
    return {m.name: m.facts_on(spacing_mm) for m in metrics} | {m.name: m.facts for m in over_draws}


def dataset_facts(dataset: Dataset) -> dict[str, str]:
    """What a dataset says of itself for the record beside its fingerprint; nothing where it has no `facts`."""
    return dataset.facts() if hasattr(dataset, "facts") else {}


def score_run(cell: Cell, dataset: Dataset, data: dict[str, str], folder: RunFolder) -> None:
    """Score a run's predictions, also under every protocol; cases scored before a kill are not scored again."""
    draws, mode = cell.config["draws"], stability_mode(cell.config["protocol"]["name"])
    stamp = digest(_settings(cell))
    known = scored_as(cell, folder)
    # A run that was scored with LPIPS stays so, also where the trunk cannot be had today.
    if known is not None and (draws == 1 or "lpips_trunk" in known):
        _clear(folder)
        return
    lpips, reason = open_lpips() if draws > 1 else (None, "")
    if known is not None and lpips is None:
        _clear(folder)
        return
    folder.note_revisions(revision())
    note_step(folder, "score", scoring_code())
    scratch = folder.path / f"scoring-{stamp[:8]}{'-lpips' if lpips else ''}"
    rows: list[dict[str, Any]] = []
    gap: list[GapValue] = []
    ids = dataset.case_ids("test")
    for done, case_id in enumerate(ids, 1):
        kept_at = scratch / f"{folder.predictions_digest(draws, case_id)}.json"
        found = kept(kept_at, partial(_score_case, cell, dataset, folder, case_id, lpips))
        rows.extend(found.rows)
        gap.extend(found.gap)
        progress.report("scoring", done, len(ids))
    frame = pd.DataFrame(rows, columns=[*SCORE_COLUMNS, REASON]).astype({"value": float, "draw": int})
    scores = RunScores(frame)
    write_gallery(folder, dataset, scores, draws)
    folder.write_scores(frame)
    folder.write_conventions(gap_table(gap, size=cell.config["image_size"]))
    notes = [reason] if reason else []
    notes += getattr(dataset, "notes", list)() + folder.inference_facts().get("notes", [])
    odd = suspicions(frame)
    for line in odd:
        progress.note(f"warning: {cell.id}: {line}")
    notes += (folder.fit_facts() or {}).get("notes", []) + odd
    chosen = build_protocol(**cell.config["protocol"]).select(cell.config["metrics"])
    facts = metric_facts(chosen, dataset.case(ids[0]).spacing_mm, mode if draws > 1 else None)
    scoring = {"scoring": stamp, **(lpips.facts() if lpips else {}), **({"stability": mode} if draws > 1 else {})}
    record = _record(cell, dataset, data, scoring, facts, folder, notes)
    write_card(folder, record, scores)
    folder.write_record(record)  # marks a whole scoring, so it comes last
    _clear(folder)


def _clear(folder: RunFolder) -> None:
    for left in folder.path.glob("scoring-*"):
        shutil.rmtree(left, ignore_errors=True)


def _settings(cell: Cell) -> dict[str, Any]:
    """What scores depend on beside the predictions, and beside whether LPIPS could be had."""
    config, mode = cell.config, stability_mode(cell.config["protocol"]["name"])
    plugins = plugin_code(config["metrics"])
    return {
        **({"code": plugins} if plugins else {}),
        **{key: config[key] for key in ("metrics", "protocol", "draws")},
        "stability": [metric.name for metric in stability_metrics(mode)] if config["draws"] > 1 else [],
        "conventions": {"protocols": PROTOCOLS, "metrics": GAP_METRICS, "size": config["image_size"]},
        "schema": SCHEMA_VERSION,
    }


def scored_as(cell: Cell, folder: RunFolder) -> dict[str, str] | None:
    """What the record says of a scoring with a cell's settings of the predictions that are there; None without one."""
    if not all(path.exists() for path in (folder.scores_path, folder.conventions_path, folder.record_path)):
        return None
    record = folder.read_record()
    # Records of earlier versions do not say what was scored.
    same = not record.files or record.files == folder.score_files(cell.config["draws"])
    return record.data if same and record.data.get("scoring") == digest(_settings(cell)) else None


def _score_case(cell: Cell, dataset: Dataset, folder: RunFolder, case_id: str, lpips: Lpips | None) -> CaseScores:
    stored = read_case(folder, dataset, case_id, cell.config["draws"])
    protocol = build_protocol(**cell.config["protocol"])
    rows = score_case(stored, dataset.spec.labels, cell.config["metrics"], lpips, protocol)
    return CaseScores(rows, case_values(stored, size=cell.config["image_size"]))


def _threads(folder: RunFolder, step: str) -> dict[str, list[int]]:
    counts = folder.threads().get(step)
    return {"threads": counts} if counts else {}


def _code(cell: Cell, folder: RunFolder) -> dict[str, Any]:
    """Which code made every step, and the revision of a method from outside."""
    place = outside_folder(cell.config["method"])
    return {**folder.steps(), **({"revision": folder_revision(place)} if place else {})}


def _record(
    cell: Cell,
    dataset: Dataset,
    data: dict[str, str],
    scoring: dict[str, str],
    metrics: dict[str, MetricFacts],
    folder: RunFolder,
    notes: list[str],
) -> RunRecord:
    facts = folder.fit_facts() or {}
    facts_now = environment_facts()
    old: dict[str, Any] = {}  # what was measured on this machine stays
    if folder.record_path.exists() and machine((known := folder.read_record()).environment) == machine(facts_now):
        old = {"scores": known.scores, "timings": known.timings, "benchmarks": known.benchmarks}
    record = RunRecord(
        method=cell.method,
        dataset=cell.dataset,
        seed=cell.seed,
        hash=digest(run_identity(cell, data)),
        profile=cell.config["profile_name"],
        protocol=cell.config["protocol"]["name"],
        fidelity=cell.config["method"].get("fidelity", "external"),
        pretrained=cell.config["method"].get("pretrained") or "",
        code=_code(cell, folder),
        config=cell.config,
        labels=list(dataset.spec.labels),
        dims=dataset.spec.dims,
        draws=cell.config["draws"],
        n_cases={split: len(dataset.case_ids(split)) for split in ("train", "val", "test")},
        data={**data, **dataset_facts(dataset), **scoring},
        metrics=metrics,
        files=folder.score_files(cell.config["draws"]),
        environment=facts_now,
        fit={**facts, **_threads(folder, "fit")},
        inference={**folder.inference_facts(), **_threads(folder, "predict")},
        notes=notes,
        **old,
    )
    if not all(isinstance(facts.get(name), int | float) for name in ("train_s_per_step", "train_seconds")):
        return record
    return record.with_scores(
        [
            Score(metric="train_s_per_step", value=facts["train_s_per_step"], unit="s", better="lower"),
            Score(
                metric="train_hours",
                value=facts["train_seconds"] / 3600,
                unit="h",
                better="lower",
                note="optimiser steps; without reading data and validation",
            ),
        ]
    )
