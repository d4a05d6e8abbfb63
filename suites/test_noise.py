"""What the noise buys, per cell: three methods and their controls, whatever `--methods` says."""

from __future__ import annotations

import pytest

from bench.runner import Run
from reports.tables.noise import CONTROLS

# What a network must predict to have controls; after it, under the method's own name, what is no such thing.
METHODS: dict[str, list[str]] = {
    "sdseg_z0": [],
    "medsegdiff_v2": ["method.name=medsegdiff_v2.mask", "method.options.prediction=mask"],
    "diff_unet": [],
}
AS_IT_IS = ("sdseg", "medsegdiff_v2")


def column(method: str, control: str) -> list[str]:
    """A control of a method, as a run of its own."""
    return [
        f"method={method}",
        *METHODS[method],
        f"method.name={method}.{control}",
        f"method.options.control={control}",
    ]


COLUMNS = [[f"method={name}"] for name in AS_IT_IS]
COLUMNS += [[f"method={name}", *overrides] for name, overrides in METHODS.items()]
COLUMNS += [column(name, control) for name in METHODS for control in CONTROLS]
pytestmark = pytest.mark.cells(*COLUMNS)


def test_noise(run: Run, publish_accuracy) -> None:
    """Every test case has every score; the control stands beside Dice and IoU."""
    publish_accuracy(control=run.cell.config["method"]["options"]["control"] or "full")
