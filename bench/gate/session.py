"""The gate at the end of a pytest session: it judges what ran in it, and nothing that lay there before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.config import Cell
from bench.errors import InputError
from bench.gate.command import check_checkout, choose_reference, facts_or_fault, gate_settings, judge_runs
from bench.gate.reference import Key, RunFacts, read_reference
from bench.gate.rules import failed
from bench.gate.verdict import Verdict


class SessionGate:
    """A pytest plugin; a reference that cannot be read, or bad settings, are an InputError before anything runs."""

    def __init__(self, given: Path | None, overrides: list[str], cells: Sequence[Cell]) -> None:
        self.path = choose_reference(given, overrides)
        self.reference = read_reference(self.path)
        check_checkout(gate_settings(cells[0]))
        self.cells = cells
        self.ran: dict[tuple[Path, Key], dict[str, str]] = {}
        self.verdict: Verdict | None = None

    def benchmark_ended(self, run: Path, key: Key, name: str, outcome: str) -> None:
        """Note how a benchmark of a run folder ended."""
        self.ran.setdefault((run, key), {})[name] = outcome

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge, and fail the session where the gate stays shut."""
        try:
            self.verdict = judge_runs(self.reference, self._runs(), self.cells)
        except InputError as error:
            self.verdict = Verdict((failed(str(error)).at("", "run", "gate"),))
        if not self.verdict.passed and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table."""
        if self.verdict is not None:
            terminalreporter.section(f"gate against {self.path}")
            terminalreporter.write_line(self.verdict.table(), green=self.verdict.passed, red=not self.verdict.passed)

    def _runs(self) -> dict[Key, RunFacts | str]:
        by_key: dict[Key, RunFacts | str] = {}
        for (path, key), outcomes in self.ran.items():
            facts = facts_or_fault(path)
            # What an earlier session ran says nothing of this one.
            by_key[key] = facts if isinstance(facts, str) else facts.model_copy(update={"benchmarks": outcomes})
        return by_key
