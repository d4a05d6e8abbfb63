"""Ablation per cell: the paper's four rows of Table 6, whatever `--methods` says."""

from __future__ import annotations

import pytest

from bench.runner import Run
from reports.tables.ablation import switches

METHODS = ("ablation_cross_attention", "ablation_concat", "ablation_trainable_encoder", "sdseg")
pytestmark = pytest.mark.cells(*([f"method={name}"] for name in METHODS))


def test_ablation(run: Run, publish_accuracy) -> None:
    """Every test case has every score; the three switches stand beside Dice and IoU."""
    setting = switches(run.cell.config)
    assert setting is not None
    publish_accuracy(**setting._asdict())
