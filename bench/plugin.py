"""The pytest plugin: options, one test per cell, the fitted run as a fixture, scores into the benchmark's JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bench import progress
from bench.config import Cell, expand
from bench.cost import on_this_machine
from bench.errors import InputError
from bench.record import Score
from bench.runner import Run


def pytest_addoption(parser: pytest.Parser) -> None:
    """The matrix from the command line."""
    group = parser.getgroup("sdseg", "segmentation benchmark")
    group.addoption("--profile", default="smoke", help="size of the run: smoke, cpu, gpu, paper")
    group.addoption("--methods", help="comma-separated methods instead of the profile's")
    group.addoption("--datasets", help="comma-separated datasets instead of the profile's")
    group.addoption("--seeds", help="comma-separated seeds instead of the profile's")
    group.addoption("--set", action="append", default=[], metavar="KEY=VALUE", help="any configuration key")


def overrides(config: pytest.Config) -> list[str]:
    """The Hydra overrides that the options stand for."""
    found = [f"profile={config.getoption('--profile')}"]
    for axis in ("methods", "datasets", "seeds"):
        value = config.getoption(f"--{axis}")
        if value:
            found.append(f"{axis}=[{value}]")
    return found + config.getoption("--set")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a bad matrix before anything is collected; long fits speak while pytest is silent."""
    config._sdseg_runs = []  # type: ignore[attr-defined]
    config._sdseg_cells = {}  # type: ignore[attr-defined]
    if not config.getoption("benchmark_only", False):
        return
    try:
        cells = expand(overrides(config))
    except InputError as error:
        raise pytest.UsageError(f"error: {error}") from error
    config._sdseg_cells = {cell.id: cell for cell in cells}  # type: ignore[attr-defined]
    config._sdseg_runs_dir = Path(cells[0].config["runs_dir"])  # type: ignore[attr-defined]
    progress.listen(progress.LineHandler(lambda line: _write_line(config, line)))


def _write_line(config: pytest.Config, line: str) -> None:
    capture = config.pluginmanager.get_plugin("capturemanager")
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per cell, so that -k, resuming and baselines work cell by cell."""
    if "run" not in metafunc.fixturenames:
        return
    cells: dict[str, Cell] = metafunc.config._sdseg_cells  # type: ignore[attr-defined]
    # Names and not cells: pytest-benchmark writes parameters into its JSON.
    metafunc.parametrize("run", list(cells), ids=list(cells), indirect=True, scope="session")
    if "batch_size" in metafunc.fixturenames:
        sizes = next(iter(cells.values())).config["measure"]["batch_sizes"] if cells else []
        metafunc.parametrize("batch_size", sizes, ids=[f"batch{size}" for size in sizes])


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """The cell's run: fitted, predicted and scored, resuming what is on disk."""
    try:
        made = Run(request.config._sdseg_cells[request.param])  # type: ignore[attr-defined]
        made.fit()
        made.predict()
        made.score()
    except InputError as error:
        if os.environ.get("SDSEG_DEBUG") == "1":
            raise
        pytest.fail(f"error: {error}", pytrace=False)
    request.config._sdseg_runs.append(made.folder.path)  # type: ignore[attr-defined]
    return made


def plain_scores(scores: Iterable[Score]) -> dict[str, float | None]:
    """Scores as plain numbers, undefined and infinite ones as None: the benchmark's JSON turns others into text."""
    values = {score.metric: float(score.value) for score in scores}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


@pytest.fixture
def publish(benchmark: Any, run: Run, request: pytest.FixtureRequest) -> Any:
    """Put scores beside the timing in the benchmark's JSON, and run-level ones into the run's record too."""

    def _publish(scores: Iterable[Score], into_record: bool = True) -> None:
        scores = list(scores)
        benchmark.extra_info.update(plain_scores(scores))
        if into_record and scores:
            run.folder.write_record(run.folder.read_record().with_scores(scores))

    benchmark.group = request.node.originalname  # before any timed call, or the JSON has no group
    record = on_this_machine(run.folder.read_record())
    run.folder.write_record(record)
    facts = {
        "method": run.cell.method,
        "dataset": run.cell.dataset,
        "seed": run.cell.seed,
        "run": record.hash,
    }
    benchmark.extra_info.update({**facts, "protocol": record.protocol, "split": record.data["split"]})
    return _publish


@pytest.hookimpl(tryfirst=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """State the device and threads; drop the clock reading that differs every time."""
    import torch

    machine_info.get("cpu", {}).pop("hz_actual", None)
    machine_info.get("cpu", {}).pop("hz_actual_friendly", None)
    machine_info["torch_threads"] = torch.get_num_threads()
    machine_info["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
