"""Verdicts: every printed claim on a data set has its row, judged by paired differences, ratios and counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.frame import read_frame
from reports.published import numbers_of_paper, read_ledgers
from reports.tables import overlap, verdicts
from tests.report_fixtures import dice_rows, write_run

NAMES = {"sdseg": "SDSeg", "sdseg_ddim10": "SDSeg (DDIM)", "medsegdiff_v1": "MedSegDiff-V1", "unet": "U-Net"}


def write(runs_dir: Path, method: str, shift: float, per_s: float | None = None, samples: float = 1) -> None:
    values = {f"c{i:02d}": 0.5 + 0.02 * i + shift + 0.001 * (i % 3) for i in range(16)}
    config = {"method": {"name": method, "printed_as": NAMES, "options": {}}}
    measured = {} if per_s is None else {"samples_per_s": per_s, "samples": samples}
    write_run(runs_dir, method, "btcv", scores=dice_rows(values), config=config, run_scores=measured)


def rows(runs_dir: Path) -> dict[str, dict[str, Any]]:
    table = verdicts.build(read_frame(runs_dir))
    assert table is not None
    return {row["method"]: row for row in table.rows}


def test_a_claim_holds_is_contradicted_or_was_not_measured(tmp_path: Path) -> None:
    write(tmp_path, "sdseg", 0.1)
    write(tmp_path, "unet", 0.0)
    write(tmp_path, "medsegdiff_v1", 0.15)
    shown = rows(tmp_path)
    unet, msd = shown["SDSeg above U-Net, Dice"], shown["SDSeg above MedSegDiff-V1, Dice"]
    assert (unet["printed"], unet["verdict"], unet["cases"]) == ("+0.169", verdicts.HOLDS, 16)
    assert unet["measured"] == pytest.approx(0.1)
    assert unet["measured_interval"] == pytest.approx((0.1, 0.1))
    assert (msd["measured"], msd["verdict"]) == (pytest.approx(-0.05), verdicts.CONTRADICTED)
    missing = shown["SDSeg above nnU-Net, Dice"]
    assert (missing["verdict"], missing["because"]) == (verdicts.NOT_MEASURED, "no run of nnU-Net")
    assert shown["SDSeg faster than MedSegDiff-V1"]["because"] == "not timed; sdseg measure times it"


def test_every_printed_comparison_of_a_data_set_has_one_row(tmp_path: Path) -> None:
    write(tmp_path, "sdseg", 0.0)
    shown = rows(tmp_path)
    printed = [entry for entry in numbers_of_paper(read_ledgers(), "24") if entry.dataset == "btcv"]
    others = {entry.method for entry in printed if entry.metric == "Dice"}
    for other in others - {"SDSeg", "SDSeg (DDIM)"}:
        assert f"SDSeg above {other}, Dice" in shown
    assert len([row for row in shown.values() if row["table"] == "6"]) == 3
    assert shown["SDSeg more stable than Diff-U-Net"]["printed"] == "8 of 8"


@pytest.mark.parametrize(("shift", "verdict"), [(0.005, verdicts.HOLDS), (0.05, verdicts.CONTRADICTED)])
def test_one_step_need_only_be_no_worse_than_ten(tmp_path: Path, shift: float, verdict: str) -> None:
    write(tmp_path, "sdseg", 0.0)
    write(tmp_path, "sdseg_ddim10", shift)
    assert rows(tmp_path)["one step is no worse than ten, Dice"]["verdict"] == verdict


def test_speed_counts_single_samples_on_one_machine(tmp_path: Path) -> None:
    write(tmp_path, "sdseg", 0.0, per_s=10.0)
    write(tmp_path, "medsegdiff_v1", 0.0, per_s=1.0, samples=4)
    faster = rows(tmp_path)["SDSeg faster than MedSegDiff-V1"]
    assert (faster["printed"], faster["measured"], faster["verdict"]) == ("27.9 times", "2.5 times", verdicts.HOLDS)


def test_a_variant_does_not_stand_for_the_papers_method(tmp_path: Path) -> None:
    write(tmp_path, "sdseg_z0", 0.1)
    assert verdicts.build(read_frame(tmp_path)) is None


def test_table_3_has_the_data_sets_on_which_both_are_printed(tmp_path: Path) -> None:
    write(tmp_path, "sdseg", 0.1)
    assert overlap.build(read_frame(tmp_path)) is None
    values = {f"c{i:02d}": 0.5 + 0.02 * i for i in range(16)}
    write_run(tmp_path, "sdseg", "cvc_clinicdb", scores=dice_rows(values))
    table = overlap.build(read_frame(tmp_path))
    assert table is not None
    (printed,) = (row for row in table.rows if row["method"].startswith("Diff-Trans"))
    assert (printed["Dice"], printed["IoU"]) == pytest.approx((0.954, 0.92))
    assert {row["dataset"] for row in table.rows} == {"cvc_clinicdb"}
