"""Stored cases become score rows, tables and a record: those of a run, and anybody's masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bench.device import resolve
from bench.files import digest
from bench.metrics import Metric, plugin_code
from bench.metrics.lpips_distance import Lpips
from bench.metrics.lpips_trunk import LpipsUnavailable, load_trunk
from bench.metrics.stability import Mode, stability_metrics
from bench.protocols import PROTOCOLS, build_protocol
from bench.protocols.gap import GAP_METRICS, gap_table
from bench.protocols.stability import stability_mode
from bench.record import REASON, SCHEMA_VERSION, SCORE_COLUMNS, MetricFacts, RunRecord
from bench.results.environment import device_facts, environment_facts
from bench.scoring.case import CaseScorer, CaseSource
from bench.scoring.workers import of_cases
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
    source: CaseSource,
    labels: tuple[str, ...],
    config: dict[str, Any],
    scratch: Path,
    lpips: Lpips | None,
    conventions: bool = True,
    workers: int = 1,
) -> Scored:
    """Score cases with the keys of `settings`, with `conventions` under every protocol too.

    A process has one case in memory; `workers` of them change nothing but the time. What a case has is kept in
    `scratch` by all that it depends on, so that a kill loses the cases that were being scored.
    """
    protocol, stamp, size = build_protocol(**config["protocol"]), digest(settings(config)), config["image_size"]
    fixed = labels, stamp, conventions, lpips is None, scoring_code()
    scored = of_cases(CaseScorer(source, labels, config, scratch, lpips, conventions, fixed), ids, workers)
    for case_id, case in zip(ids, scored, strict=True):
        case.notes.repeat()
        source.learn(case_id, case.learnt)
    mode = stability_mode(protocol.name) if config["draws"] > 1 else None
    references = digest([labels, [case.reference for case in scored]])
    data = {"scoring": stamp, "references": references, **(lpips.facts() if lpips else {})}
    rows = [row for case in scored for row in case.values.rows]
    return Scored(
        pd.DataFrame(rows, columns=[*SCORE_COLUMNS, REASON]).astype({"value": float, "draw": int}),
        gap_table((value for case in scored for value in case.values.gap), size=size),
        labels,
        scored[-1].dims if scored else 0,
        metric_facts(protocol.select(config["metrics"]), {case.spacing_mm for case in scored}, mode),
        {**data, **({"stability": mode} if mode else {})},
        digest([case.predictions for case in scored]),
    )


def metric_facts(
    metrics: Sequence[Metric], spacings: Iterable[tuple[float, ...] | None], mode: Mode | None
) -> dict[str, MetricFacts]:
    """For the record, by name: metrics of single draws on cases of these spacings, and over draws in a mode, if any."""
    spacings = set(spacings)
    units = {metric.name: " or ".join(sorted(set(map(metric.unit_on, spacings)))) for metric in metrics}
    facts = {metric.name: metric.facts.model_copy(update={"unit": units[metric.name]}) for metric in metrics}
    return facts | (stability_metrics(mode) if mode else {})
