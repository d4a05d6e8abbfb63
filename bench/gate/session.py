"""The gate at the end of a pytest session: it judges what ran in it, and nothing that lay there before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.config import Cell
from bench.errors import InputError, RunError
from bench.gate.against import base_of, judge_against, write_comment
from bench.gate.command import check_checkout, choose_reference, facts_or_fault, gate_settings, judge_runs
from bench.gate.reference import Key, RunFacts, read_reference
from bench.gate.sides import commit_of
from bench.gate.verdict import Verdict, failed


class SessionGate:
    """A pytest plugin; what is no reference and no revision, or bad settings, are an InputError before anything runs.

    `given` names a file, or a revision as base:REV; "" is the committed reference.
    """

    def __init__(self, given: str, overrides: list[str], cells: Sequence[Cell], comment: Path | None = None) -> None:
        self.settings = gate_settings(cells[0])
        self.revision = base_of(given)
        if self.revision is None:
            self.against = str(path := choose_reference(Path(given) if given else None, overrides))
            self.reference = read_reference(path)
            check_checkout(self.settings)
        else:
            self.against = commit_of(self.revision)
        self.cells, self.overrides, self.comment = cells, overrides, comment
        self.ran: dict[tuple[Path, Key], dict[str, str]] = {}
        self.verdict: Verdict | None = None

    def benchmark_ended(self, run: Path, key: Key, name: str, outcome: str) -> None:
        """Note how a benchmark of a run folder ended."""
        self.ran.setdefault((run, key), {})[name] = outcome

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge, and fail the session where the gate stays shut."""
        try:
            if self.revision is None:
                self.verdict = judge_runs(self.reference, self._runs(), self.cells)
            else:
                made = {key: path for path, key in self.ran}
                self.verdict = judge_against(self.revision, self.cells, self.overrides, self.settings, made)
        except (InputError, RunError) as error:
            self.verdict = Verdict((failed(str(error)).at("", "run", "gate"),))
        write_comment(self.verdict, self.comment)
        if not self.verdict.passed and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table."""
        if self.verdict is not None:
            terminalreporter.section(f"gate against {self.against}")
            terminalreporter.write_line(self.verdict.table(), green=self.verdict.passed, red=not self.verdict.passed)

    def _runs(self) -> dict[Key, RunFacts | str]:
        by_key: dict[Key, RunFacts | str] = {}
        for (path, key), outcomes in self.ran.items():
            facts = facts_or_fault(path)
            # What an earlier session ran says nothing of this one.
            by_key[key] = facts if isinstance(facts, str) else facts.model_copy(update={"benchmarks": outcomes})
        return by_key
