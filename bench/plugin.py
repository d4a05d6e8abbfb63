"""The pytest plugin: options, one test per cell, the fitted run as a fixture, scores into the benchmark's JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench import progress
from bench.command.announcement import announcement
from bench.config import Cell, expand
from bench.errors import InputError, NotApplicableError, RunError
from bench.gate.session import SessionGate
from bench.measure.cost import keep_costs
from bench.metrics import select
from bench.record import Score, Timing
from bench.results.environment import revision
from bench.results.reuse import STEPS
from bench.results.store import RunFolder
from bench.results.stored import read_case
from bench.runner import Run
from bench.scores import RunScores
from bench.scoring.case import score_case

# A run in which these are undefined everywhere was not scored.
_OVERLAP = ("Dice", "IoU")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The matrix from the command line."""
    group = parser.getgroup("sdseg", "segmentation benchmark")
    group.addoption("--profile", default="smoke", help="size of the run: smoke, cpu, gpu, paper")
    group.addoption("--methods", help="comma-separated methods instead of the profile's")
    group.addoption("--datasets", help="comma-separated datasets instead of the profile's")
    group.addoption("--seeds", help="comma-separated seeds instead of the profile's")
    group.addoption("--set", action="append", default=[], metavar="KEY=VALUE", help="any configuration key")
    again = "make this step of every run and those after it again, whatever is on disk"
    group.addoption("--redo", choices=STEPS, help=again)
    text = "fail unless every run passes against the reference FILE (the committed one without), or revision base:REV"
    group.addoption("--gate", nargs="?", const="", metavar="FILE", help=text)
    group.addoption("--markdown", type=Path, metavar="FILE", help="write the gate's verdict as a pull-request comment")


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
    config.addinivalue_line("markers", "cells(*columns): the suite's own methods, each a list of overrides")
    config._sdseg_runs = []  # type: ignore[attr-defined]
    config._sdseg_cells = {}  # type: ignore[attr-defined]
    config._sdseg_matrix = []  # type: ignore[attr-defined]
    _refuse_parallel(config)
    gate = config.getoption("--gate", None)
    if gate is not None and not config.getoption("benchmark_only", False):
        raise pytest.UsageError("--gate judges benchmarks: add --benchmark-only")
    if not config.getoption("benchmark_only", False):
        return
    try:
        cells = expand(overrides(config))
        if gate is not None and not config.option.collectonly:
            found = SessionGate(gate, overrides(config), cells, config.getoption("--markdown"))
            config.pluginmanager.register(found, "sdseg_gate")
    except InputError as error:
        raise pytest.UsageError(str(error)) from error
    config._sdseg_matrix = _remember(config, cells)  # type: ignore[attr-defined]
    config._sdseg_runs_dir = Path(cells[0].config["runs_dir"])  # type: ignore[attr-defined]
    progress.listen(progress.LineHandler(lambda line: _write_line(config, line)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Say what the collected benchmarks will do before the first of them."""
    config = session.config
    cells: dict[str, Cell] = config._sdseg_cells  # type: ignore[attr-defined]
    parameters = (getattr(item, "callspec", None) for item in session.items)
    names = dict.fromkeys(one.params["run"] for one in parameters if one and one.params.get("run") in cells)
    if names and not config.option.collectonly and (line := announcement([cells[name] for name in names])):
        _write_line(config, line)


def _refuse_parallel(config: pytest.Config) -> None:
    """Benchmarks of several processes at once would time one another."""
    suites = config.rootpath / "suites"
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    asked = config.getoption("benchmark_only", False) or any(path.resolve().is_relative_to(suites) for path in named)
    if asked and config.getoption("numprocesses", None):
        raise pytest.UsageError("-n: benchmarks run one after another, or they would time each other; leave -n out")


def _write_line(config: pytest.Config, line: str) -> None:
    capture = config.pluginmanager.get_plugin("capturemanager")
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(line)


def _remember(config: pytest.Config, cells: Iterable[Cell]) -> list[str]:
    # Names and not cells: pytest-benchmark writes parameters into its JSON.
    found = {cell.id: cell for cell in cells}
    config._sdseg_cells.update(found)  # type: ignore[attr-defined]
    return list(found)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per cell, so that -k, resuming and baselines work cell by cell."""
    if "run" not in metafunc.fixturenames:
        return
    names = _cell_names(metafunc.config, metafunc.definition)
    metafunc.parametrize("run", names, ids=names, indirect=True, scope="session")
    if "batch_size" in metafunc.fixturenames:
        cells: dict[str, Cell] = metafunc.config._sdseg_cells  # type: ignore[attr-defined]
        sizes = cells[names[0]].config["measure"]["batch_sizes"] if names else []
        metafunc.parametrize("batch_size", sizes, ids=[f"batch{size}" for size in sizes])


def _cell_names(config: pytest.Config, item: pytest.Item) -> list[str]:
    """The matrix of the command line, or with the marker `cells` its datasets and seeds with the suite's methods."""
    own = item.get_closest_marker("cells")
    if own is None:
        return config._sdseg_matrix  # type: ignore[attr-defined]
    if not config._sdseg_matrix:  # type: ignore[attr-defined]
        return []
    try:
        return _remember(config, [cell for column in own.args for cell in expand([*overrides(config), *column])])
    except InputError as error:
        raise pytest.Collector.CollectError(f"error: {error}") from error


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """The cell's run: fitted, predicted and scored, resuming what is on disk."""
    try:
        made = Run(request.config._sdseg_cells[request.param])  # type: ignore[attr-defined]
        with made.folder.locked():
            made.do(STEPS, request.config.getoption("--redo", None))
    except NotApplicableError as error:
        pytest.skip(str(error))
    except (InputError, RunError) as error:
        if os.environ.get("SDSEG_DEBUG") == "1":
            raise
        pytest.fail(f"error: {error}", pytrace=False)
    request.config._sdseg_runs.append(made.folder.path)  # type: ignore[attr-defined]
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep in the run's record how each of its benchmarks ended, so that none counts that failed or did not run."""
    report = yield
    run = getattr(item, "funcargs", {}).get("run")
    if isinstance(run, Run) and (report.when == "call" or report.outcome != "passed"):
        name = _benchmark_name(item)
        keep_outcome(run.folder, name, report.outcome)
        gate = item.config.pluginmanager.get_plugin("sdseg_gate")
        if gate is not None:
            key = run.cell.dataset, run.cell.method, run.cell.seed
            gate.benchmark_ended(run.folder.path, key, name, report.outcome)
    return report


def _benchmark_name(item: pytest.Item) -> str:
    """The test's name with its parameters except the cell."""
    parameters = {k: v for k, v in item.callspec.params.items() if k != "run"}  # type: ignore[attr-defined]
    listed = ", ".join(f"{name}={value}" for name, value in sorted(parameters.items()))
    return getattr(item, "originalname", item.name) + (f"[{listed}]" if listed else "")


def keep_outcome(folder: RunFolder, name: str, outcome: str) -> None:
    """Write passed, failed or skipped beside the name of a benchmark into the record, where there is one."""
    if not folder.record_path.exists():
        return
    with folder.locked():
        record = folder.read_record()
        folder.write_record(record.model_copy(update={"benchmarks": {**record.benchmarks, name: outcome}}))


def plain_scores(scores: Iterable[Score]) -> dict[str, float | None]:
    """Scores as plain numbers, undefined and infinite ones as None: the benchmark's JSON turns others into text."""
    values = {score.metric: float(score.value) for score in scores}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


@pytest.fixture
def publish(benchmark: Any, run: Run, request: pytest.FixtureRequest) -> Any:
    """Put scores beside the timing in the benchmark's JSON; run-level ones and raw rounds into the run's record too."""

    def _publish(
        scores: Iterable[Score], into_record: bool = True, timings: Mapping[str, Timing] | None = None
    ) -> None:
        scores = list(scores)
        benchmark.extra_info.update(plain_scores(scores))
        if into_record and scores:
            keep_costs(run, scores, timings)

    benchmark.group = request.node.originalname  # before any timed call, or the JSON has no group
    with run.folder.locked():
        run.folder.note_revisions(revision())
        keep_costs(run, [])  # costs of another machine go
        record = run.folder.read_record()
    facts = {
        "method": run.cell.method,
        "dataset": run.cell.dataset,
        "seed": run.cell.seed,
        "run": record.hash,
    }
    benchmark.extra_info.update({**facts, "protocol": record.protocol, "split": record.data["split"]})
    return _publish


@pytest.fixture
def publish_accuracy(benchmark: Any, run: Run, publish: Any) -> Any:
    """Score one case under the clock, then publish the means over all cases and further facts by name."""

    def _publish(**facts: Any) -> None:
        dataset, metrics = run.dataset, run.cell.config["metrics"]
        cases = dataset.case_ids("test")
        first = read_case(run.folder, dataset, cases[0], 1)
        benchmark.pedantic(score_case, args=(first, dataset.spec.labels, metrics, None), rounds=5)
        rows = len(cases) * len(dataset.spec.labels) * run.cell.config["draws"]
        publish(accuracy_scores(run.folder.run_scores(), metrics, rows), into_record=False)
        benchmark.extra_info.update(facts)

    return _publish


def accuracy_scores(run_scores: RunScores, metrics: list[str], rows: int) -> list[Score]:
    """A run's value and count of undefined rows per metric; AssertionError where not all `rows` are there.

    Dice and IoU must be defined somewhere; a metric that no case defines, as distances where no draw finds anything
    are under some protocols, stays undefined.
    """
    scores = []
    for metric in select(metrics):
        scored, summary = len(run_scores.rows(metric.name, single=True)), run_scores.summary(metric.name, metric.facts)
        if scored != rows:
            raise AssertionError(f"{metric.name}: {scored} rows, expected {rows}")
        if metric.name in _OVERLAP and math.isnan(summary.mean):
            raise AssertionError(f"{metric.name}: undefined on every case")
        value = summary.count if metric.kind == "count" else summary.mean
        scores.append(Score(metric=metric.name, value=value, better=metric.better, note=summary.why))
        scores.append(Score(metric=f"{metric.name}_undefined", value=summary.undefined, better="lower"))
    return scores


@pytest.hookimpl(tryfirst=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """State the device and threads; drop the clock reading that differs every time."""
    import torch

    from bench.config import compose_config
    from bench.device import resolve
    from bench.results.environment import device_facts

    machine_info.get("cpu", {}).pop("hz_actual", None)
    machine_info.get("cpu", {}).pop("hz_actual_friendly", None)
    machine_info["torch_threads"] = torch.get_num_threads()
    device = resolve(compose_config(overrides(config))["device"])
    machine_info["gpu"] = device_facts(device)["name"] if device == "cuda" else None
