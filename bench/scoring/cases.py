"""Stored cases become score rows, tables and a record: those of a run, and anybody's masks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import progress
from bench.device import resolve
from bench.files import atomic_path, digest
from bench.metrics import Metric, plugin_code
from bench.metrics.lpips_distance import Lpips
from bench.metrics.lpips_trunk import LpipsUnavailable, load_trunk
from bench.metrics.stability import Mode, stability_metrics
from bench.protocols import PROTOCOLS, STRICT, Protocol, build_protocol
from bench.protocols.gap import GAP_METRICS, GapValue, case_values, gap_table
from bench.protocols.stability import protocol_stability, stability_mode
from bench.record import ALL_DRAWS, REASON, SCHEMA_VERSION, SCORE_COLUMNS, MetricFacts, RunRecord
from bench.results.environment import device_facts, environment_facts
from bench.results.stored import StoredCase
from bench.scores import mean_defined
from bench.sources import scoring_code


class Scored(NamedTuple):
    """Score rows of all cases, the table of all protocols (empty unless asked for), and what the record says of them.

    `data` goes into the record's `data`; `predictions` is a sha256 of the content of all masks and scores.
    """

    rows: pd.DataFrame
    conventions: pd.DataFrame
    labels: tuple[str, ...]
    dims: int
    metrics: dict[str, MetricFacts]
    data: dict[str, str]
    predictions: str

    def record(
        self, config: dict[str, Any], data: dict[str, str], made_on: dict[str, Any] | None = None, **more: Any
    ) -> RunRecord:
        """The record of a run with this configuration on data with this fingerprint; `more` are its other fields.

        `made_on` are the facts of the device its predictions come from, if they are known.
        """
        method = config["method"]
        return RunRecord(
            method=method["name"],
            dataset=config["dataset"]["name"],
            seed=config["seed"],
            profile=config["profile_name"],
            protocol=config["protocol"]["name"],
            fidelity=method.get("fidelity", "external"),
            pretrained=method.get("pretrained") or "",
            config=config,
            labels=list(self.labels),
            dims=self.dims,
            draws=config["draws"],
            data={**data, **self.data},
            metrics=self.metrics,
            environment=environment_facts(made_on or device_facts(resolve(config["device"]))),
            **more,
        )


def open_lpips(device: str) -> tuple[Lpips | None, str]:
    """LPIPS with the true trunk, or None and the reason why its column stays empty."""
    try:
        return Lpips(load_trunk(), device), ""
    except LpipsUnavailable as error:
        return None, f"LPIPS not computed: {error}"


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """What scores depend on beside the predictions, and beside whether LPIPS could be had."""
    mode, plugins = stability_mode(config["protocol"]["name"]), plugin_code(config["metrics"])
    return {
        **({"code": plugins} if plugins else {}),
        **{key: config[key] for key in ("metrics", "protocol", "draws")},
        "stability": list(stability_metrics(mode)) if config["draws"] > 1 else [],
        "conventions": {"protocols": PROTOCOLS, "metrics": GAP_METRICS, "size": config["image_size"]},
        "schema": SCHEMA_VERSION,
    }


def score_cases(
    ids: Sequence[str],
    read: Callable[[str], StoredCase],
    labels: tuple[str, ...],
    config: dict[str, Any],
    scratch: Path,
    lpips: Lpips | None,
    conventions: bool = True,
) -> Scored:
    """Score cases with the keys of `settings`, one in memory at a time, with `conventions` under every protocol too.

    What a case has is kept in `scratch` by all that it depends on, so that a kill loses one case.
    """
    protocol, stamp, size = build_protocol(**config["protocol"]), digest(settings(config)), config["image_size"]
    fixed = labels, stamp, conventions, lpips is None, scoring_code()
    device = resolve(config["device"])
    spacings: set[tuple[float, ...] | None] = set()
    references, predictions, dims = [], [], 0
    rows: list[dict[str, Any]] = []
    gap: list[GapValue] = []
    for done, case_id in enumerate(ids, 1):
        stored = read(case_id)

        def score(stored: StoredCase = stored) -> tuple[list[dict[str, Any]], list[GapValue]]:
            own = score_case(stored, labels, config["metrics"], lpips, protocol, device)
            return own, case_values(stored, size=size) if conventions else []

        references.append(_reference_digest(stored))
        predictions.append(_digest((case_id, stored.masks.shape), np.packbits(stored.masks), stored.scores))
        key = _digest((references[-1], predictions[-1], stored.case.group, *fixed))
        of_case, of_protocols = _kept(scratch / f"{key}.json", score)
        rows += of_case
        gap += map(GapValue._make, of_protocols)
        spacings.add(stored.case.spacing_mm)
        dims = stored.case.reference.ndim - 1
        progress.report("scoring", done, len(ids))
    mode = stability_mode(protocol.name) if config["draws"] > 1 else None
    data = {"scoring": stamp, "references": digest([labels, references]), **(lpips.facts() if lpips else {})}
    return Scored(
        pd.DataFrame(rows, columns=[*SCORE_COLUMNS, REASON]).astype({"value": float, "draw": int}),
        gap_table(gap, size=size),
        labels,
        dims,
        metric_facts(protocol.select(config["metrics"]), spacings, mode),
        {**data, **({"stability": mode} if mode else {})},
        digest(predictions),
    )


def score_case(
    stored: StoredCase,
    labels: tuple[str, ...],
    metrics: list[str],
    lpips: Lpips | None,
    protocol: Protocol = STRICT,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Score rows of one case: every metric per draw and label, and the agreement over draws.

    Undefined values are NaN and stay rows, with their reason. A metric that the protocol has no rule for is the strict
    one, and its row says so; where the protocol scores slices, the row is the mean of those defined.
    Draws are compared on `device`.
    """
    case, chosen = stored.case, protocol.select(metrics)
    rows: list[dict[str, Any]] = []

    def add(label: int, draw: int, metric: str, convention: str, value: float) -> None:
        row = (case.id, case.group, labels[label], draw, metric, convention, value)
        rows.append(dict(zip(SCORE_COLUMNS, row, strict=True)) | {REASON: getattr(value, "reason", "")})

    for draw, label, pair in stored.pairs():
        for metric, values in zip(chosen, protocol.values(pair, chosen), strict=True):
            add(label, draw, metric.name, metric.convention, mean_defined(values))
    over_draws = protocol_stability(protocol, case.reference, stored.scores, stored.masks, lpips, device)
    size = case.reference[0].size
    for label, name, convention, value in over_draws:
        # The only share of elements among them: of those that count.
        if name == "flip_rate" and 0 < stored.n_ignored < size:
            value *= size / (size - stored.n_ignored)
        add(label, ALL_DRAWS, name, convention, value)
    return rows


def metric_facts(
    metrics: Sequence[Metric], spacings: Iterable[tuple[float, ...] | None], mode: Mode | None
) -> dict[str, MetricFacts]:
    """For the record, by name: metrics of single draws on cases of these spacings, and over draws in a mode, if any."""
    spacings = set(spacings)
    units = {metric.name: " or ".join(sorted(set(map(metric.unit_on, spacings)))) for metric in metrics}
    facts = {metric.name: metric.facts.model_copy(update={"unit": units[metric.name]}) for metric in metrics}
    return facts | (stability_metrics(mode) if mode else {})


def _kept(path: Path, score: Callable[[], Any]) -> Any:
    """What is kept at `path`, or else what `score` returns, which is then kept there for this program alone."""
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    made = score()
    with atomic_path(path) as part:
        part.write_text(json.dumps(made), encoding="utf-8")  # with NaN and Infinity, which strict JSON has not
    return made


def _reference_digest(stored: StoredCase) -> str:
    case = stored.case
    ignored = np.packbits(case.ignored) if case.ignored is not None and stored.n_ignored else None
    return _digest((case.id, case.reference.shape, case.spacing_mm), np.packbits(case.reference), ignored)


def _digest(words: Any, *arrays: np.ndarray | None) -> str:
    sha256 = hashlib.sha256(repr(words).encode())
    for array in arrays:
        sha256.update(b"" if array is None else np.ascontiguousarray(array).data)
    return sha256.hexdigest()
