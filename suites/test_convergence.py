"""Convergence per cell: Dice over DDIM steps, with and without the latent loss (paper Figure 3)."""

from __future__ import annotations

import pytest

from bench.runner import Run

METHODS = ("sdseg", "ablation_trainable_encoder")
STEPS = (1, 2, 3, 5, 10, 20, 50)


def column(method: str, steps: int) -> list[str]:
    """A method at a number of steps, as a run of its own: one draw, and a point of the figure, not a row of a table."""
    names = [f"method={method}", f"method.name={method}.steps{steps}", "+method.sweep=steps"]
    return [*names, f"method.inference.steps={steps}", "draws=1"]


pytestmark = pytest.mark.cells(*(column(m, s) for m in METHODS for s in STEPS))


def test_convergence(run: Run, publish_accuracy) -> None:
    """Every test case has every score; all steps of a method share one training."""
    config = run.cell.config["method"]
    publish_accuracy(steps=config["inference"]["steps"], latent_weight=config["options"]["latent_weight"])
