"""Scores of a folder of anybody's predictions against a folder of references."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import progress
from bench.datasets.formats import LOSSY, affine_of, decode, format_suffix
from bench.errors import InputError
from bench.files import atomic_path, write_json
from bench.folder_summary import summarise
from bench.images import find_files, present_ids, read_label_map, read_mask, same_orientation
from bench.metrics import MASK_METRICS, Metric
from bench.metrics.perceptual import undefined_reason
from bench.metrics.stability import stability_metrics
from bench.protocols import Protocol, build_protocol
from bench.protocols.gap import GapValue, case_values, gap_table
from bench.protocols.stability import stability_mode
from bench.record import SCORE_COLUMNS
from bench.scoring import ALL_DRAWS, open_lpips, score_case
from bench.stored import StoredCase
from bench.types import Case

_BINARY = {1, 255, 65535}
_CSV_COLUMNS = ["case", "label", "draw", "metric", "value"]


class _References(NamedTuple):
    """Reference files by stem, and what their values mean: label names with ids, or None for binary masks."""

    files: dict[str, Path]
    names: tuple[str, ...]
    ids: dict[str, int] | None


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
    metrics: Sequence[str] = MASK_METRICS,
    *,
    size: int = 256,
    conventions: bool = False,
) -> dict[str, Any]:
    """Score masks in `pred` (or in its sub-folders `draw-*`) against `ref`, paired by file stem.

    A metric that the protocol has no rule for is the strict one; `convention` in scores.parquet and summary says so.
    `size` is the in-plane size in pixels of protocols that score at their network's. Writes scores.csv, scores.parquet
    and summary.json into `out` once everything is scored, with `conventions` also conventions.csv (the same masks
    under every protocol), and returns the summary. References are binary ("foreground") or integer label maps (one
    label per id they hold). Raises InputError, with nothing written, for missing or extra predictions, other sizes,
    unreadable files, values that are no mask, unknown protocols or metrics, and metrics that need a soft score.
    """
    rules = build_protocol(protocol, size)
    chosen = rules.select(metrics)
    soft = [metric.name for metric in chosen if metric.needs_score]
    if soft:
        raise InputError(f"metrics: {', '.join(soft)} needs soft scores, which a folder of masks does not hold")
    draws = _draws(Path(pred))
    files = find_files(Path(ref))
    _check_stems(Path(ref), files, draws)
    references = _read_labels(Path(ref), files)
    scored = _score(references, draws, list(metrics), rules, size if conventions else None)
    summary = {
        "protocol": protocol,
        "rules": {"targets": rules.targets, "grid": rules.grid, "empty": rules.empty},
        "conventions": _conventions(chosen, scored.spacings, protocol, len(draws)),
        "n_cases": len(files),
        "draws": len(draws),
        "labels": list(references.names),
        **scored.facts,
        "metrics": summarise(scored.frame),
    }
    _write(Path(out), scored.frame, summary, gap_table(scored.gap, size=size) if conventions else None)
    return summary


def _draws(folder: Path) -> list[dict[str, Path]]:
    """Prediction files by stem, one mapping per draw."""
    loose = find_files(folder)
    repeated = sorted(path for path in folder.glob("draw-*") if path.is_dir())
    if repeated and loose:
        raise InputError(f"{folder}: holds both masks and draw-* folders; keep one of the two")
    return [find_files(path) for path in repeated] or [loose]


def _check_stems(ref: Path, files: dict[str, Path], draws: list[dict[str, Path]]) -> None:
    if not files:
        raise InputError(f"{ref}: holds no reference mask; give PNG, TIFF, NPY or NIfTI files")
    for number, draw in enumerate(draws):
        where = f" in draw {number}" if len(draws) > 1 else ""
        missing, extra = sorted(set(files) - set(draw)), sorted(set(draw) - set(files))
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise InputError(f"{files[missing[0]]}: no prediction{where} for this reference{more}; add it")
        if extra:
            more = f" (and {len(extra) - 1} more)" if len(extra) > 1 else ""
            raise InputError(f"{draw[extra[0]]}: no reference of that stem in {ref}{more}; remove or rename it")


def _read_labels(ref: Path, files: dict[str, Path]) -> _References:
    found: set[int] = set()
    most = 0
    for done, path in enumerate(files.values(), 1):
        ids = present_ids(read_label_map(path))
        found |= set(ids)
        most = max(most, len(ids))
        progress.report("reading references", done, len(files))
    if len(found) <= 1 or (most == 1 and found <= _BINARY):
        return _References(files, ("foreground",), None)
    names = {str(number): number for number in sorted(found)}
    return _References(files, tuple(names), names)


def _conventions(
    chosen: Sequence[Metric], spacings: set[tuple[float, ...] | None], protocol: str, draws: int
) -> dict[str, dict[str, str]]:
    """Convention, unit and direction of every metric on these cases."""
    found = {}
    for metric in chosen:
        unit = " or ".join(sorted({metric.unit_on(spacing) for spacing in spacings}))
        facts = {"convention": metric.convention, "unit": unit, "better": str(metric.better)}
        found[metric.name] = {**facts, **({"note": metric.note} if metric.note else {})}
    for over in stability_metrics(stability_mode(protocol)) if draws > 1 else ():
        if not over.name.endswith("/score"):  # there are masks only
            found[over.name] = {"convention": over.convention, "unit": over.unit, "better": str(over.better)}
    return found


def _score(
    references: _References,
    draws: list[dict[str, Path]],
    metrics: list[str],
    protocol: Protocol,
    gap_size: int | None,
) -> _Scored:
    """Everything about all cases, one in memory at a time; no gap where `gap_size` is None."""
    lpips, reason = open_lpips() if len(draws) > 1 else (None, "")
    notes = {reason}
    rows: list[dict[str, Any]] = []
    gap: list[GapValue] = []
    known: set[int] = set()
    unscored: set[int] = set()
    spacings: set[tuple[float, ...] | None] = set()
    content = hashlib.sha256(repr(references.names).encode())
    for done, (stem, path) in enumerate(references.files.items(), 1):
        case = _reference_case(stem, path, references.ids)
        masks = np.stack([_prediction(draw[stem], path, case, references.ids, known, unscored) for draw in draws])
        stored = StoredCase(case, masks)
        rows += score_case(stored, references.names, metrics, lpips, protocol)
        gap += [] if gap_size is None else case_values(stored, size=gap_size)
        spacings.add(case.spacing_mm)
        content.update(repr((stem, case.reference.shape, case.spacing_mm)).encode())
        content.update(np.packbits(case.reference).tobytes())
        if len(draws) > 1:
            notes.add(undefined_reason("MS-SSIM", *case.reference.shape[-2:]) or "")
        progress.report("scoring", done, len(references.files))
    if unscored and not known:
        raise InputError(
            f"{draws[0][stem].parent}: predictions hold the ids {sorted(unscored)}, references "
            f"{sorted((references.ids or {}).values())}; use the same label ids"
        )
    frame = pd.DataFrame(rows, columns=SCORE_COLUMNS).astype({"value": float, "draw": int})
    facts = {
        "references": content.hexdigest(),
        "ids_without_reference": sorted(unscored),
        "notes": sorted(notes - {""}),
    }
    return _Scored(frame, facts, spacings, gap)


def _reference_case(stem: str, path: Path, ids: dict[str, int] | None) -> Case:
    reference = read_mask(path, ids)
    image = np.broadcast_to(np.float32(0), (1, *reference.shape[1:]))
    spacing = decode(path, indexed=True).spacing_mm if affine_of(path) is not None else None
    return Case(stem, stem, image, reference, spacing)


def _prediction(
    path: Path,
    reference_path: Path,
    case: Case,
    ids: dict[str, int] | None,
    known: set[int],
    unscored: set[int],
) -> np.ndarray:
    """The mask (L, *S) of one prediction; adds the ids it holds to `known` or `unscored`."""
    if ids is None:
        mask = read_mask(path)
    elif format_suffix(path) in LOSSY:
        raise InputError(f"{path}: a lossy format cannot hold label ids; use PNG, TIFF or NIfTI")
    else:
        plane = read_label_map(path)
        present = set(present_ids(plane))
        known |= present & set(ids.values())
        unscored |= present - set(ids.values())
        mask = np.stack([plane == number for number in ids.values()])
    if mask.shape != case.reference.shape:
        sizes = (" x ".join(map(str, array.shape[1:])) for array in (mask, case.reference))
        raise InputError("{}: size {}, but the reference has {}; save it at that size".format(path, *sizes))
    if not same_orientation(affine_of(path), affine_of(reference_path)):
        raise InputError(f"{path}: runs along other axes than its reference; save it on the reference's grid")
    return mask


def _write(out: Path, frame: pd.DataFrame, summary: dict[str, Any], gap: pd.DataFrame | None) -> None:
    table = frame[_CSV_COLUMNS].astype({"draw": object})
    table.loc[frame["draw"] == ALL_DRAWS, "draw"] = ""
    with atomic_path(out / "scores.parquet") as temporary:
        frame.to_parquet(temporary, index=False)
    with atomic_path(out / "scores.csv") as temporary:
        table.to_csv(temporary, index=False)
    if gap is None:
        (out / "conventions.csv").unlink(missing_ok=True)  # of other masks
    else:
        with atomic_path(out / "conventions.csv") as temporary:
            gap.to_csv(temporary, index=False)
    write_json(out / "summary.json", summary)
