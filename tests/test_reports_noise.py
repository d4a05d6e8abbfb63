"""What does the noise buy: which runs the table shows, and what it compares with what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.frame import read_frame
from reports.table import Table
from reports.tables import noise
from tests.report_fixtures import dice_rows, method_config, write_run

SHIFTS = {None: 0.02, "random": 0.0, "shuffled": 0.03, "none": 0.02}


def write(runs_dir: Path, control: str | None, shift: float, seed: int = 0, **options: Any) -> None:
    """Cases that differ by far more than the controls, so that only pairing finds a difference."""
    values = {f"c{i:02d}": 0.05 * i + shift + 0.001 * (i % 2) * (control == "none") for i in range(16)}
    config = method_config("sdseg_z0", **{"prediction": "z0", "control": control, **options})
    write_run(runs_dir, "sdseg_z0", seed=seed, scores=dice_rows(values), config=config)


def built(runs_dir: Path) -> Table:
    table = noise.build(read_frame(runs_dir))
    assert table is not None
    return table


def test_every_control_is_compared_with_the_full_method_case_by_case(tmp_path: Path) -> None:
    for control, shift in SHIFTS.items():
        write(tmp_path, control, shift)
    rows = built(tmp_path).rows
    assert [row["control"] for row in rows] == ["full", "random", "shuffled", "none"]
    assert [row.get("difference") for row in rows] == pytest.approx([None, -0.02, 0.01, 0.0005])
    low, high = rows[1]["difference_interval"]
    assert (low, high) == pytest.approx((-0.02, -0.02))
    low, high = rows[3]["difference_interval"]
    assert low < 0.0005 < high
    assert rows[1]["cases"] == 16


def test_seeds_are_averaged_by_case(tmp_path: Path) -> None:
    for seed in (0, 1):
        for control in (None, "none"):
            write(tmp_path, control, 0.04 * seed if control else 0.01, seed)
    full, none = built(tmp_path).rows
    assert (full["seeds"], none["seeds"]) == ("0, 1", "0, 1")
    assert none["difference"] == pytest.approx(0.02 - 0.01 + 0.0005)


def test_rows_are_found_by_their_settings(tmp_path: Path) -> None:
    """Old runs without the option are full, SDSeg that says itself that there is no diffusion is `none`."""
    write(tmp_path, None, 0.02, noise="gaussian", timesteps="uniform")
    write(tmp_path, "random", 0.0, noise="gaussian", timesteps="uniform")
    values = {f"c{i:02d}": 0.05 * i for i in range(16)}
    still = {"prediction": "z0", "noise": "zeros", "timesteps": "last"}
    write_run(tmp_path, "sdseg_direct", scores=dice_rows(values), config=method_config("sdseg_direct", **still))
    old = method_config("sdseg", noise="gaussian", timesteps="uniform")
    write_run(tmp_path, "sdseg", scores=dice_rows(values), config=old)
    other = method_config("sdseg_ddim", 10, prediction="z0", noise="gaussian", timesteps="uniform")
    write_run(tmp_path, "sdseg_ddim", scores=dice_rows(values), config=other)
    rows = built(tmp_path).rows
    assert [(row["method"], row["control"], row["prediction"]) for row in rows] == [
        ("sdseg_z0", "full", "z0"),
        ("sdseg", "full", "eps"),
        ("sdseg_z0", "random", "z0"),
        ("sdseg_direct", "none", "z0"),
    ]
    assert rows[1]["difference"] == pytest.approx(-0.02)


def test_without_a_control_there_is_no_table(tmp_path: Path) -> None:
    write(tmp_path, None, 0.02)
    write(tmp_path, None, 0.02, prediction="v")
    assert noise.build(read_frame(tmp_path)) is None


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    write(tmp_path, "random", 0.0)
    write(tmp_path, "none", 0.0)
    table = built(tmp_path)
    assert not any("difference" in row for row in table.rows)
    assert any("full was not run" in note for note in table.notes)
    values = {f"d{i:02d}": 0.05 * i for i in range(16)}
    config = method_config("sdseg_z0", prediction="z0", control=None)
    write_run(tmp_path, "sdseg_z0", scores=dice_rows(values), config=config)
    table = built(tmp_path)
    assert not any("difference" in row for row in table.rows)
    assert any("random (z0) was scored on other cases" in note for note in table.notes)
