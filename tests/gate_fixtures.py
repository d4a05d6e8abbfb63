"""Made-up runs for the tests of the gate: what a good run holds, and what may be changed in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import cli
from bench.config import GateConfig, compose_config, expand
from bench.gate import Reference, RunFacts, Verdict, judge, run_facts
from bench.record import Score, Timing
from bench.results.store import RunFolder
from bench.runner import Run
from tests.report_fixtures import made_up_scores, write_run

COMMIT = "0123456789abcdef"
ENVIRONMENT = {
    "git": {"commit": COMMIT, "dirty": False},
    "device": {"type": "cpu", "name": "Example CPU"},
    "torch": {"threads": 1},
    "packages": {"torch": "2.13.0"},
}
BENCHMARKS = {"test_accuracy": "passed", "test_speed[batch_size=1]": "passed", "test_footprint": "passed"}
COMPOSED: dict[tuple[str, ...], dict[str, Any]] = {}
SETTINGS = asdict(GateConfig())


@pytest.fixture(autouse=True)
def composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra takes half a second for what these tests ask again and again."""

    def compose(overrides: list[str]) -> dict[str, Any]:
        key = tuple(o for o in overrides if not o.startswith("runs_dir="))
        if key not in COMPOSED:
            COMPOSED[key] = compose_config(list(key))
        runs_dir = [o.partition("=")[2] for o in overrides if o.startswith("runs_dir=")]
        return {**deepcopy(COMPOSED[key]), **({"runs_dir": runs_dir[0]} if runs_dir else {})}

    monkeypatch.setattr("bench.config.compose_config", compose)


def rounds(factor: float = 1.0, count: int = 12, noise: float = 0.01, machine: float = 1.0, seed: int = 0) -> Timing:
    """Timed calls of 40 ms beside a workload of 10 ms."""
    rng = np.random.default_rng(seed)
    seconds = 0.04 * factor * machine * np.exp(rng.normal(0, noise, count))
    workload = 0.01 * machine * np.exp(rng.normal(0, noise, count))
    return Timing(seconds=seconds.tolist(), workload=workload.tolist(), workload_name="convolutions")


def timed(*arguments: Any, **options: Any) -> dict[str, Any]:
    return {"timings": {"predict_batch1": rounds(*arguments, **options)}}


def make_run(folder: Path, scores: pd.DataFrame | None = None, mib: float = 600.0, **record: Any) -> Path:
    """A run with accuracy, stability, rounds and memory."""
    fields = {
        "hash": "a" * 64,
        "draws": 3,
        "data": {"data": "d4" * 32, "split": "5b" * 32, "scoring": "5c" * 32},
        "environment": ENVIRONMENT,
        "benchmarks": BENCHMARKS,
        "timings": {"predict_batch1": rounds()},
    }
    found = made_up_scores(0.86, n=24, draws=3) if scores is None else scores
    path = write_run(folder, "unet", scores=found, **{**fields, **record})
    run = RunFolder(path)
    run.write_record(run.read_record().with_scores([Score(metric="peak_rss_mib", value=mib, unit="MiB")]))
    return path


def made(folder: Path, *scores: pd.DataFrame, **change: Any) -> RunFacts:
    """What the gate judges of a run that was made up."""
    return run_facts(make_run(folder, *scores, **change))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    return made(tmp_path_factory.mktemp("good"))


def changed(change: Callable[[pd.DataFrame], pd.DataFrame]) -> dict[str, Any]:
    return {"scores": change(made_up_scores(0.86, n=24, draws=3))}


def shifted(metric: str, by: float, noise: float = 0.0) -> dict[str, Any]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        moved = frame["value"] + by + np.random.default_rng(1).normal(0, noise, len(frame))
        return frame.assign(value=frame["value"].mask(frame["metric"] == metric, moved))

    return changed(change)


def at_case(metric: str, case: str, value: float) -> dict[str, Any]:
    return changed(
        lambda frame: frame.assign(
            value=frame["value"].mask((frame["metric"] == metric) & (frame["case"] == case), value)
        )
    )


def environment(**changes: Any) -> dict[str, Any]:
    return {"environment": {**ENVIRONMENT, **changes}}


def data(**changes: str) -> dict[str, Any]:
    return {"data": {"data": "d4" * 32, "split": "5b" * 32, "scoring": "5c" * 32, **changes}}


def verdict(good: RunFacts, now: RunFacts | str, **settings: Any) -> Verdict:
    reference = Reference(profile=good.profile, runs=[good])
    return judge(reference, {good.key: now}, {**SETTINGS, **settings}, COMMIT)


def failures(found: Verdict) -> dict[str, str]:
    """Why it fails, by metric."""
    failed: dict[str, str] = {}
    for row in found.rows:
        if not row.passed:
            failed.setdefault(row.metric, row.verdict)
    return failed


class Project:
    """One cell of the smoke profile with made-up results, and a checkout at their revision."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.overrides = ["methods=[unet]", "datasets=[phantom/polyp]", "seeds=[0]", f"runs_dir={root / 'runs'}"]
        self.run = Run(expand(["profile=smoke", *self.overrides])[0]).folder.path
        self.reference = root / "reference.json"

    def make(self, **change: Any) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.rmtree(self.root / "made", ignore_errors=True)
        shutil.copytree(make_run(self.root / "made", **change), self.run)

    def gate(self, *arguments: str) -> int:
        return cli.main(["gate", *arguments, *self.overrides])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr("bench.gate.command.checkout", lambda: (COMMIT, False))
    monkeypatch.setattr("bench.gate.command.trajectory", lambda cell: None)  # trains; test_gate_trajectory has it
    return Project(tmp_path)
