"""The model card of a run: its record, told to whoever finds the weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.build import import_by_name
from bench.record import RunRecord
from bench.results.store import RunFolder
from bench.stats import mean_interval


def write_card(folder: RunFolder, record: RunRecord, scores: pd.DataFrame) -> None:
    """Write the card beside the weights, by the function that the method's configuration names; none without one."""
    writer = record.config["method"].get("card")
    if writer and folder.model.is_dir():
        import_by_name(writer)(folder.model, card_facts(record, scores))


def card_facts(record: RunRecord, scores: pd.DataFrame) -> dict[str, Any]:
    """What the card says of a run; what the record does not hold is left out."""
    method, cases = record.config["method"], record.n_cases
    facts: dict[str, Any] = {
        "title": f"{record.method} on {record.dataset}, seed {record.seed}",
        "architecture": f"{method.get('options', {}).get('architecture', record.method)} ({record.fidelity})",
        "weights": _weights(record),
        "source": f"run {record.hash[:8]}, code {(record.environment.get('git') or {}).get('commit', 'unknown')}",
        "data": f"{record.dataset}: {cases['train']} training, {cases['val']} validation, {cases['test']} test cases",
        "split": {name: value for name, value in record.data.items() if name in ("data", "split")},
        "protocol": f"{record.protocol}; {record.draws} draws of every test case",
        "scores": _means(record, scores),
        "recipe": {**method.get("options", {}), **method.get("recipe", {})},
    }
    millions = record.score("parameters_m")
    return facts if math.isnan(millions) else {**facts, "parameters": f"{millions:.2f} M"}


def _weights(record: RunRecord) -> str:
    if not record.fit.get("steps"):
        return record.pretrained or "not trained here"
    selected = record.fit.get("selected_step", "unknown")
    return f"start: {record.pretrained or 'random'}; trained here, step {selected} chosen on validation"


def _means(record: RunRecord, scores: pd.DataFrame) -> dict[str, str]:
    rows = {}
    for metric in record.config["metrics"]:
        found = scores[(scores["draw"] >= 0) & (scores["metric"] == metric)]
        values = found.groupby(["group", "case"], sort=False)["value"].mean().dropna()
        unit = record.data.get(f"metric {metric}", "").partition(";")[0]
        if len(values) and unit != "cases":  # counts are not means
            if np.isinf(values).any():
                rows[f"test {metric}"] = f"infinite {unit}".rstrip()
                continue
            groups = values.index.get_level_values("group")
            interval = mean_interval(values.to_list(), list(groups))
            words = f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}] {unit}"
            rows[f"test {metric}"] = words.rstrip()
    return rows
