"""Runs that have not ended: how far each has come, read from what it has left so far."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Unfinished:
    """A run folder without a record: what it is of, what is done, what is missing, and when it was last written to."""

    path: Path
    dataset: str
    method: str
    seed: str
    done: str
    missing: str
    written: str

    @property
    def line(self) -> str:
        """All of it in a line."""
        return f"{self.method} on {self.dataset}, seed {self.seed}: {self.done}; missing: {self.missing}"


def read_unfinished(folder: Path) -> Unfinished | None:
    """How far a run folder without a record has come; None where it is no run folder of ours."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        method, dataset, seed = config["method"], config["dataset"]["name"], str(config["seed"])
        done, missing = _progress(folder, method.get("recipe") or {}, int(config["draws"]))
        name = str(method["name"])
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        return None
    written = max((path.stat().st_mtime for path in _touched(folder)), default=0.0)
    when = datetime.fromtimestamp(written, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Unfinished(folder, str(dataset), name, seed, done, missing, when)


def _progress(folder: Path, recipe: dict[str, Any], draws: int) -> tuple[str, str]:
    if not (folder / "model" / "fit.json").is_file() and not (folder / "predictions").is_dir():
        step, steps = _last_step(folder / "model" / "log.jsonl"), recipe.get("steps")
        of = f" of {steps:,}" if isinstance(steps, int) else ""
        return (f"trained {step:,}{of} steps" if step else "begun"), "the rest of the training, predictions, scores"
    if not (folder / "predictions" / "inference.json").is_file():
        counts = [len(list((folder / "predictions" / f"draw-{d:03d}").glob("[!.]*.npz"))) for d in range(draws)]
        return f"trained; {sum(counts):,} predictions in {draws} draws", "the other predictions, scores"
    return "trained and predicted", "scores"


def _last_step(log: Path) -> int:
    """The last step of a training's log, 0 without one; a line cut short counts for nothing."""
    step = 0
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        try:
            step = int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return step


def _touched(folder: Path) -> list[Path]:
    places = (folder, folder / "model", *folder.glob("predictions/draw-*"))
    return [path for place in places for path in (place, place / "log.jsonl") if path.exists()]
