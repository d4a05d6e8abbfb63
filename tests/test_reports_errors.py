"""The table of errors by hand: units, counts, undefined values, conventions, and what is best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.metrics import METRICS
from bench.metrics.facts import facts_of
from reports.frame import read_frame
from reports.table import Table
from reports.tables import errors
from reports.writers import to_csv, to_text
from tests.report_fixtures import FACTS, dice_rows, score_rows, write_run

NAN, INF = math.nan, math.inf
UNITS = {
    name: METRICS[name].facts.model_copy(update={"unit": unit})
    for name, unit in (("HD95", "px"), ("VolumeDifference", "mm2"))
}


def by_case(metric: str, values: list[float], draw: int = 0, label: str = "lesion", groups: int = 0) -> pd.DataFrame:
    rows = [
        (f"case-{i:02d}", f"g{i % groups if groups else i}", label, draw, metric, value)
        for i, value in enumerate(values)
    ]
    return score_rows(rows)


def table(runs_dir: Path, *parts: pd.DataFrame, method: str = "sdseg", **record: Any) -> Table:
    write_run(runs_dir, method, scores=pd.concat(parts), **{"metrics": FACTS | UNITS, "draws": 1, **record})
    return errors.build(read_frame(runs_dir))


def test_means_intervals_and_units(tmp_path: Path) -> None:
    far, near = [0.0, 1.0, 2.0, 3.0] * 5, [0.98, 1.0, 0.2, 1.0] * 5
    shown = table(tmp_path, by_case("HD95", far), by_case("NSD", near), by_case("VolumeDifference", far))
    (row,) = shown.rows
    assert (row["HD95"], row["NSD"]) == (pytest.approx(1.5), pytest.approx(0.795))
    assert (row["unit"], row["volume_unit"], row["cases"], row["undefined"]) == ("px", "mm²", 20, 0)
    low, high = row["HD95_interval"]
    assert 0 < low < 1.5 < high
    assert row["NSD_interval"][1] <= 1
    assert shown.notes[-1] == "NSD: tolerance 2 mm, or 2 px on cases without spacing."
    assert "ASSD" not in row


def test_counts_are_cases_of_a_draw(tmp_path: Path) -> None:
    # The first draw misses two cases of one label and the second one: 1.5 on average, of 2 x 20.
    parts = [
        by_case("missed", [1.0] * (2 - draw) + [0.0] * (18 + draw), draw, label)
        if label == "a"
        else by_case("missed", [0.0] * 20, draw, label)
        for draw in (0, 1)
        for label in ("a", "b")
    ]
    (row,) = table(tmp_path, *parts, by_case("hallucinated", [0.0] * 20), draws=2, labels=["a", "b"]).rows
    assert row["missed"] == pytest.approx(1.5)
    assert row["hallucinated"] == 0
    low, high = row["missed_interval"]
    assert 0 <= low < 1.5 < high < 40
    # None of 20 is no proof that there are none: the rule of three says up to 3, and this bound is no tighter.
    low, high = row["hallucinated_interval"]
    assert low == 0
    assert 3 <= high < 5


def test_a_count_has_no_interval_below_ten_groups(tmp_path: Path) -> None:
    (row,) = table(tmp_path, by_case("missed", [0.0] * 20, groups=5)).rows
    assert (row["missed"], row["missed_interval"]) == (0, None)


def test_undefined_values_are_left_out_counted_and_noted(tmp_path: Path) -> None:
    parts = [by_case(name, [NAN, NAN, *[4.0] * 18]) for name in ("HD95", "ASSD")]
    shown = table(tmp_path, *parts, by_case("RelativeVolumeDifference", [NAN] * 20))
    (row,) = shown.rows
    assert (row["HD95"], row["HD95_undefined"], row["undefined"], row["cases"]) == (4.0, 2, 24, 20)
    assert row["RelativeVolumeDifference"] is None
    assert "HD95, ASSD undefined: sdseg on phantom/polyp 2 values (18 cases remain)." in shown.notes
    assert "Volume error undefined: sdseg on phantom/polyp 20 values (0 cases remain)." in shown.notes
    lines = to_csv(shown).splitlines()
    values = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert (values["RelativeVolumeDifference"], values["ASSD_undefined"]) == ("", "2")


def test_an_infinite_value_of_a_protocol_is_not_averaged_away(tmp_path: Path) -> None:
    part = by_case("ASSD", [1.0] * 19 + [INF]).assign(convention="monai")
    shown = table(tmp_path, part, protocol="monai")
    assert (shown.rows[0]["ASSD"], shown.rows[0]["ASSD_interval"]) == (INF, None)
    assert "ASSD infinite: sdseg on phantom/polyp 1." in shown.notes


def test_every_convention_is_a_row_of_its_own_and_named(tmp_path: Path) -> None:
    theirs = by_case("HD95", [1.0] * 12).assign(convention="diff_unet")
    shown = table(tmp_path, theirs, by_case("ECE", [0.1] * 12), protocol="diff_unet")
    assert [(row["method"], row["convention"]) for row in shown.rows] == [
        ("sdseg (diff_unet)", "diff_unet"),
        ("sdseg (strict)", "strict"),
    ]
    assert [row.get("unit") for row in shown.rows] == ["px", None]


def test_the_best_follows_the_direction_within_a_comparison(tmp_path: Path) -> None:
    def of(value: float) -> list[pd.DataFrame]:
        names = ("HD95", "NSD", "missed", "VolumeBias")
        return [by_case(name, [value] * 12) for name in names]

    table(tmp_path, *of(0.2))
    shown = table(tmp_path, *of(0.4), method="unet")
    names = [row["method"] for row in shown.rows]
    assert {(names[index], key) for index, key in shown.best()} == {
        ("sdseg", "HD95"),
        ("sdseg", "missed"),
        ("unet", "NSD"),
    }


def test_a_tolerance_of_its_own_is_a_column(tmp_path: Path) -> None:
    shown = table(tmp_path, by_case("NSD@1", [0.5] * 12), metrics={"NSD@1": facts_of("NSD@1")})
    assert shown.rows[0]["NSD@1"] == pytest.approx(0.5)
    assert "NSD@1" in [column.key for column in shown.shown("page")]
    assert "NSD@1: tolerance 1 mm, or 1 px on cases without spacing." in shown.notes


def test_runs_with_dice_alone_are_named_and_have_no_row(tmp_path: Path) -> None:
    write_run(tmp_path, scores=dice_rows({"a": 0.5}))
    assert errors.build(read_frame(tmp_path)) is None
    shown = table(tmp_path, by_case("HD95", [1.0] * 30), method="unet")
    assert [row["method"] for row in shown.rows] == ["unet"]
    assert shown.notes == ["Scored by Dice and IoU alone (sdseg score adds the rest): sdseg on phantom/polyp."]


def test_small_samples_list_their_values(tmp_path: Path) -> None:
    shown = table(tmp_path, by_case("HD95", [1.0, 2.0, 4.0]))
    assert shown.rows[0]["HD95_interval"] is None
    assert any(
        "HD95: no interval (n=3)" in note and "values per case: 1.000, 2.000, 4.000" in note for note in shown.notes
    )


def test_the_terminal_has_room_for_the_most_important(tmp_path: Path) -> None:
    found = table(tmp_path, *(by_case(column.key, [0.5] * 12) for column in (*errors._MEANS, *errors._COUNTS)))
    text = to_text(found)
    assert max(len(line) for line in text.splitlines()) <= 100
    shown = [column.key for column in found.shown("terminal")]
    assert shown[2:] == ["HD95", "unit", "NSD", "RelativeVolumeDifference", "missed", "hallucinated", "ECE", "cases"]
    # Nothing that is scored is kept out of the CSV.
    for column in (*errors._MEANS, *errors._COUNTS):
        assert f",{column.key}," in to_csv(found)
        assert f",{column.key}_interval_low," in to_csv(found)
