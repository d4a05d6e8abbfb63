"""The table of the convention gap: what protocols say, how far apart they are, and files that are missing or broken."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.protocols import PROTOCOLS
from bench.protocols.gap import GAP_COLUMNS
from reports.build import build_report
from reports.frame import read_frame
from reports.table import Table
from reports.tables import ORDER, conventions
from reports.writers import to_csv, to_markdown
from tests.report_fixtures import dice_rows, rows_of, write_run

DICE = (0.80, 0.82, 0.70, 0.80, 0.80, 0.80, 0.80, 0.80)


def gap(shift: float = 0.0, dice: tuple[float, ...] = DICE, **units: str) -> pd.DataFrame:
    rows: list[tuple[Any, ...]] = [
        (name, "Dice", "", value + shift, 9, 1, "case and label", "labels")
        for name, value in zip(PROTOCOLS, dice, strict=True)
    ]
    for name, value in (("strict", 4.0), ("diff_unet", 3.0), ("monai", math.inf)):
        rows.append((name, "HD95", units.get(name, "px"), value, 10, 0, "case and label", "labels"))
    return pd.DataFrame(rows, columns=GAP_COLUMNS)


def write(runs_dir: Path, method: str, table: pd.DataFrame | None, seed: int = 0, **record: Any) -> Path:
    folder = write_run(runs_dir, method, seed=seed, scores=dice_rows({"a": 0.8, "b": 0.7}), **record)
    if table is not None:
        table.to_parquet(folder / "conventions.parquet")
    return folder


def built(runs_dir: Path) -> Table:
    return conventions.build(read_frame(runs_dir))


def test_a_row_per_metric_and_a_column_per_protocol(tmp_path: Path) -> None:
    write(tmp_path, "sdseg", gap())
    table = built(tmp_path)
    assert table.name in ORDER
    assert [column.key for column in table.shown("page")] == [
        *("dataset", "method", "metric"),
        *PROTOCOLS,
        *("spread", "highest"),
    ]
    dice, distance = table.rows
    assert dice["metric"] == "Dice"
    assert tuple(dice[name] for name in PROTOCOLS) == DICE
    assert (dice["spread"], dice["highest"]) == (pytest.approx(0.12), "sdseg")
    assert distance["metric"] == "HD95 (px)"
    assert (distance["spread"], distance["highest"]) == (math.inf, "monai")
    assert distance.get("sdseg") is None
    assert table.best() == set()
    assert "∞" in to_markdown(table)
    assert table.shown("terminal") == []


def test_every_protocol_has_its_rule_in_the_caption(tmp_path: Path) -> None:
    assert set(conventions.RULES) == set(PROTOCOLS)
    assert conventions.NEEDED == GAP_COLUMNS
    write(tmp_path, "sdseg", gap().query("protocol != 'monai'"))
    caption = built(tmp_path).caption
    assert all(conventions.RULES[name] in caption for name in PROTOCOLS if name != "monai")
    assert conventions.RULES["monai"] not in caption


def test_csv_counts_what_each_protocol_counts(tmp_path: Path) -> None:
    write(tmp_path, "sdseg", gap())
    dice, distance = csv.DictReader(io.StringIO(to_csv(built(tmp_path))))
    assert (dice["monai_n_counted"], dice["monai_n_dropped"]) == ("9", "1")
    assert (dice["nnunet_counted_by"], dice["nnunet_mean_over"]) == ("case and label", "labels")
    assert (distance["strict_unit"], distance["nnunet_n_counted"]) == ("px", "")


def test_seeds_are_averaged_and_their_counts_added(tmp_path: Path) -> None:
    write(tmp_path, "sdseg", gap())
    write(tmp_path, "sdseg", gap(0.1, dice=(*DICE[:6], math.nan, DICE[7])), seed=1)
    table = built(tmp_path)
    (dice,) = rows_of(table, metric="Dice")
    assert dice["strict"] == pytest.approx(0.85)
    assert dice["nnunet"] == pytest.approx(0.8)  # of the seed that has one, which is said
    assert table.notes == ["Dice under nnunet is undefined (seed 1): sdseg on phantom/polyp."]
    assert (dice["strict_n_counted"], dice["strict_n_dropped"], dice["seeds"]) == (18, 2, "0, 1")


def test_units_that_differ_have_no_spread(tmp_path: Path) -> None:
    write(tmp_path, "sdseg", gap(strict="mm"))
    table = built(tmp_path)
    (distance,) = rows_of(table, metric="HD95")
    assert (distance["spread"], distance["highest"]) == (None, None)
    assert table.notes == [
        "HD95 is in mm under strict; px under diff_unet, monai, so it has no spread: sdseg on phantom/polyp."
    ]


def test_equal_values_are_no_gap(tmp_path: Path) -> None:
    write(tmp_path, "sdseg", gap(dice=(0.1 + 0.2, *[0.3] * 7)))
    (dice,) = rows_of(built(tmp_path), metric="Dice")
    assert (dice["spread"], dice["highest"]) == (0.0, None)


def test_older_runs_are_noted(tmp_path: Path) -> None:
    write(tmp_path, "unet", None)
    assert conventions.build(read_frame(tmp_path)) is None
    write(tmp_path, "sdseg", gap())
    table = built(tmp_path)
    assert {row["method"] for row in table.rows} == {"sdseg"}
    assert table.notes == ["Not scored under every protocol, which sdseg score makes up for: unet on phantom/polyp."]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PAR1 but not really", "not a table of conventions"),
        (gap().drop(columns="mean_over"), "columns missing: mean_over"),
        (gap().assign(mean="high"), "could not convert"),
    ],
)
def test_a_broken_file_is_a_warning(content: Any, reason: str, tmp_path: Path) -> None:
    write(tmp_path, "sdseg", gap())
    broken = write(tmp_path, "unet", None) / "conventions.parquet"
    broken.write_bytes(content) if isinstance(content, bytes) else content.to_parquet(broken)
    result = build_report(tmp_path, tmp_path / "report")
    (warning,) = result.warnings
    assert warning.startswith(f"{broken}: not a table of conventions")
    assert reason in warning
    assert "\n" not in warning
    assert (tmp_path / "report" / "conventions.csv").exists()
