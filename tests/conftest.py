"""Tests neither download nor depend on what this machine happens to have cached."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.own_code import own_code  # noqa: F401 (a fixture)

if TYPE_CHECKING:
    from reports.build import ReportResult

# Sessions that tests start are no workers of this one, and may measure.
os.environ.pop("PYTEST_XDIST_WORKER", None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Small networks gain nothing from a second thread, and results stay comparable.

    Said anew for every test: after a run of the smoke profile, which takes two, all later ones would take them too.
    """
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def own_workers() -> Iterator[None]:
    """The workers that joblib keeps have the folder and the environment of the test that started them."""
    yield
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    if loky is not None and loky._executor is not None:
        loky._executor.shutdown(wait=True, kill_workers=True)


@pytest.fixture(scope="module")
def no_lpips() -> Iterator[None]:
    """A machine without LPIPS' trunk, from here to the end of the module."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("run", "folder"):
            reason = "LPIPS not computed: switched off in this test"
            patch.setattr(f"bench.scoring.{module}.open_lpips", lambda _, reason=reason: (None, reason))
        yield


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some made-up runs, an ablation and a sweep among them."""
    from tests.report_fixtures import write_whole_example

    runs_dir = tmp_path_factory.mktemp("example") / "runs"
    write_whole_example(runs_dir)
    return runs_dir


@pytest.fixture(scope="session")
def report(example: Path) -> ReportResult:
    """The whole report of the made-up runs."""
    from reports.build import build_report

    return build_report(example)
