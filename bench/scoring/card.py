"""The model card of a run: its record, told to whoever finds the weights."""

from __future__ import annotations

import math
from typing import Any

from bench.importing import import_by_name
from bench.record import RunRecord
from bench.results.store import RunFolder
from bench.scores import RunScores


def write_card(folder: RunFolder, record: RunRecord, scores: RunScores) -> None:
    """Write the card beside the weights, by the function that the method's configuration names; none without one."""
    writer = record.config["method"].get("card")
    if writer and folder.model.is_dir():
        import_by_name(writer)(folder.model, card_facts(record, scores))


def card_facts(record: RunRecord, scores: RunScores) -> dict[str, Any]:
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


def _means(record: RunRecord, scores: RunScores) -> dict[str, str]:
    rows = {}
    for metric, facts in record.metrics.items():
        summary = scores.summary(metric, facts)
        if facts.kind == "count" or math.isnan(summary.mean):
            continue
        words = f"infinite {facts.unit}"
        if math.isfinite(summary.mean):
            interval = "[{:.4f}, {:.4f}]".format(*summary.interval) if summary.interval else "(no interval)"
            words = f"{summary.mean:.4f} {interval} {facts.unit}"
        rows[f"test {metric}"] = words.rstrip()
    return rows
