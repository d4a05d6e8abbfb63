"""A pytest plugin: after the last test, the tables of the runs that were just made."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.build import render_terminal
from reports.frame import REPORT_FOLDER


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Print the tables of `config._sdseg_runs` (run folders) and where the page goes; nothing if empty."""
    runs: list[Path] = list(getattr(config, "_sdseg_runs", None) or [])
    if not runs:
        return
    runs_dir = Path(getattr(config, "_sdseg_runs_dir", "runs"))
    terminalreporter.section("benchmark tables")
    terminalreporter.write_line(render_terminal(runs_dir, runs))
    terminalreporter.write_line(f"`sdseg report` puts the page at {runs_dir / REPORT_FOLDER / 'index.html'}")
