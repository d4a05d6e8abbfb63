"""Tests neither download nor depend on what this machine happens to have cached."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small networks gain nothing from a second thread, and results stay comparable."""
    torch.set_num_threads(1)


@pytest.fixture
def no_lpips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without LPIPS' trunk."""
    monkeypatch.setattr("bench.scoring.open_lpips", lambda: (None, "LPIPS not computed: switched off in this test"))
