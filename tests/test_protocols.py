"""Named protocols: their rules in the situations that tell them apart, and their use."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bench.config import compose_config
from bench.declared import CONF_DIR
from bench.errors import InputError
from bench.metrics import METRICS, Pair
from bench.protocols import PROTOCOLS, STRICT, build_protocol
from bench.protocols.resizing import bilinear, nearest_image, nearest_volume
from bench.record import read_scores
from bench.results.stored import StoredCase
from bench.scores import mean_defined
from bench.scoring.case import score_case
from bench.scoring.cases import metric_facts
from bench.scoring.folder import score_folder
from tests.protocol_fixtures import EMPTY, OBJECT, SITUATIONS, SIZE, case, predicted_run, write_masks

NAN = math.nan
DICE = {  # normal, shifted, missed, hallucinated, both empty
    "strict": (1, 0.5, 0, 0, NAN),
    "sdseg": (1, 0.5, 0, 1, 0),
    "medsegdiff": (1, 0.5, 0, 0, 1),
    "diff_unet": (1, 0.5, 0, 1, 0),
    "diff_unet_validation": (1, 0.5, 0, 0, NAN),
    # A quarter of the image is wanted: an all-foreground mask has Dice .4.
    "ssformer": ((255 + 0.4) / 256, (255 / 2 + 0.4) / 256, 0.4 / 256, 0, 0),
    "nnunet": (1, 0.5, 0, 0, NAN),
    "monai": (1, 0.5, 0, NAN, NAN),
}
IOU = {
    "strict": (1, 1 / 3, 0, 0, NAN),
    "sdseg": (1, 1 / 3, 0, 0, 0),
    "medsegdiff": (1, 1 / 3, 0, 0, 1),
    "nnunet": (1, 1 / 3, 0, 0, NAN),
    "monai": (1, 1 / 3, 0, NAN, NAN),
}
DIAGONAL = SIZE * 2 * math.sqrt(2)
HD95 = {
    "strict": (0, 8, DIAGONAL, DIAGONAL, NAN),  # mm; a side of the square lies 4 px away
    "diff_unet": (0, 4, 0, 0, 0),  # px
    "diff_unet_validation": (0, 4, NAN, NAN, NAN),
    "monai": (0, 4, NAN, NAN, NAN),
}


@pytest.mark.parametrize(
    ("metric", "name"), [(m, n) for m, table in (("Dice", DICE), ("IoU", IOU), ("HD95", HD95)) for n in table]
)
def test_the_five_situations(metric: str, name: str) -> None:
    protocol = build_protocol(name, SIZE)
    (chosen,) = protocol.select([metric])
    listed = [mean_defined(protocol.values(pair, [chosen])[0]) for pair in SITUATIONS.values()]
    expected = {"Dice": DICE, "IoU": IOU, "HD95": HD95}[metric][name]
    assert listed == pytest.approx(expected, abs=2e-5, nan_ok=True)
    assert chosen.convention == name


def test_a_volume_with_a_second_slice_is_one_case_except_for_medsegdiff() -> None:
    pair = Pair(np.stack([OBJECT, OBJECT]), np.stack([OBJECT, EMPTY]), (1.0, 1.0, 1.0))
    for name in PROTOCOLS:
        protocol = build_protocol(name, SIZE)
        (values,) = protocol.values(pair, protocol.select(["Dice"]))
        expected = {"medsegdiff": [1, 0], "ssformer": [(255 * 2 / 3 + 2 / 9) / 256]}.get(name, [2 / 3])
        assert values == pytest.approx(expected, abs=1e-5), name
        assert protocol.unit == ("slice" if name == "medsegdiff" else "case")


def test_what_a_protocol_has_no_rule_for_is_strict() -> None:
    protocol = build_protocol("nnunet")
    assert [(m.name, m.convention) for m in protocol.select(["Dice", "HD95"])] == [
        ("Dice", "nnunet"),
        ("HD95", "strict"),
    ]
    assert STRICT.select(METRICS) == list(METRICS.values())
    measured = protocol.values(SITUATIONS["shifted"], protocol.select(["HD95", "Dice"]))
    assert measured == [[8.0], [0.5]]


def test_medsegdiff_takes_any_trace_for_a_target() -> None:
    score = np.where(OBJECT, 0.02, 0).astype(np.float32)
    protocol = build_protocol("medsegdiff", SIZE)
    pair = Pair(score > 0.5, OBJECT, score=score)
    assert protocol.values(pair, protocol.select(["Dice"])) == [[pytest.approx(1)]]
    assert METRICS["Dice"](pair) == 0
    pair = Pair(score > 0.5, EMPTY, score=score)
    assert protocol.values(pair, protocol.select(["Dice"]))[0][0] < 1e-5


def test_sdseg_scores_at_the_networks_size() -> None:
    # A line of one pixel: of 32 rows, nearest neighbour at 16 keeps the odd ones or not.
    reference = np.zeros((32, 32), bool)
    reference[8:10, 4:28] = True
    odd = np.zeros((32, 32), bool)
    odd[9, 4:28] = True
    protocol = build_protocol("sdseg", 16)
    pair = Pair(odd, reference, (1.0, 1.0))
    (dice,) = protocol.values(pair, protocol.select(["Dice"]))
    assert dice[0] != pytest.approx(METRICS["Dice"](pair), abs=0.05)
    assert build_protocol("sdseg", 32).values(pair, protocol.select(["Dice"])) == [[pytest.approx(2 / 3)]]


def test_resizing() -> None:
    rows = np.zeros((2, 4, 4), bool)
    rows[:, 0] = rows[:, 3] = True
    assert nearest_image(rows[0], 2).tolist() == [[False, False], [True, True]]  # centres lie on rows 1 and 3
    assert nearest_volume(rows, 2).all()  # corners are kept
    assert nearest_volume(rows, 8).shape == (2, 8, 8)
    ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 4, 4)
    assert bilinear(ramp, 2).mean() == pytest.approx(0.5)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_a_configuration(name: str) -> None:
    config = compose_config([f"protocol={name}", "image_size=48"])["protocol"]
    protocol = build_protocol(**config)
    assert protocol.name == name
    assert config.get("size", 48) == 48
    for words in (protocol.description, protocol.targets, protocol.grid, protocol.empty):
        assert len(words) > 10
    if "size" in config:
        assert "48 x 48" in protocol.grid


def test_the_configurations_are_the_protocols() -> None:
    assert {path.stem for path in (CONF_DIR / "protocol").glob("*.yaml")} == set(PROTOCOLS)


def test_bad_protocols_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'medsegdiff'"):
        build_protocol("medsegdif")
    with pytest.raises(InputError, match="size '256', expected a positive number"):
        build_protocol("sdseg", "256")


def test_rows_of_a_case_name_their_convention() -> None:
    masks = np.stack([[OBJECT, EMPTY]])
    stored = StoredCase.of(case("a", EMPTY, EMPTY), masks)
    rows = score_case(stored, ("x", "y"), ["Dice", "HD95"], None, build_protocol("sdseg", 16)).rows
    by_name = {(row["label"], row["metric"]): (row["convention"], row["value"]) for row in rows}
    assert by_name["x", "Dice"] == ("sdseg", 1)
    assert by_name["y", "Dice"] == ("sdseg", 0)
    assert by_name["x", "HD95"] == ("strict", pytest.approx(16 * math.sqrt(2)))
    assert len(rows) == 4


def test_facts_state_units_and_notes() -> None:
    facts = metric_facts(STRICT.select(["ASSD", "NSD"]), {(1.0, 1.0, 1.0)}, None)
    assert [(name, fact.unit, fact.tolerance, fact.high) for name, fact in facts.items()] == [
        ("ASSD", "mm", None, math.inf),
        ("NSD", "", 2.0, 1.0),
    ]
    assert metric_facts(STRICT.select(["ASSD"]), {None, (1.0, 2.0)}, "strict")["ASSD"].unit == "mm or px"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Predictions, references and where scores go: found by half, missed, hallucinated, nothing."""
    return write_masks(tmp_path)


def test_a_folder_under_strict_has_every_metric_of_masks(folders: tuple[Path, Path, Path]) -> None:
    summary = score_folder(*folders)
    by_name = {name: facts["foreground"] for name, facts in summary["metrics"].items()}
    assert set(by_name) == {name for name, metric in METRICS.items() if not metric.needs_score}
    assert [by_name[name]["cases"] for name in ("missed", "hallucinated", "both_empty")] == [1, 1, 1]
    assert "cases" not in by_name["Dice"]
    diagonal = SIZE * math.sqrt(2)
    assert by_name["HD95"]["mean"] == pytest.approx((4 + diagonal + diagonal) / 3)
    assert by_name["HD95"]["n_undefined"] == 1
    assert summary["conventions"]["HD95"]["unit"] == "px"
    assert "2 px" in summary["conventions"]["NSD"]["note"]
    assert summary["conventions"]["NSD"]["better"] == "higher"
    assert json.loads((folders[2] / "summary.json").read_text()) == summary


def test_a_folder_under_a_paper_s_protocol(folders: tuple[Path, Path, Path]) -> None:
    name = "monai"
    summary = score_folder(*folders, protocol=name)
    dice = summary["metrics"]["Dice"]["foreground"]
    assert (dice["mean"], dice["n_undefined"]) == (pytest.approx(0.25), 2)
    frame = read_scores(folders[2] / "scores.parquet")
    assert set(frame.loc[frame["metric"] == "Dice", "convention"]) == {name}
    assert set(frame.loc[frame["metric"] == "Precision", "convention"]) == {"strict"}
    assert (summary["protocol"], summary["conventions"]["Precision"]["convention"]) == (name, "strict")


def test_a_run_is_scored_under_a_protocol(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    extra = ["metrics=[Dice,IoU,HD95,NSD@1,Brier]", "protocol=diff_unet"]
    run = predicted_run(folders, tmp_path, *extra)
    run.score()
    frame = read_scores(run.folder.scores_path)
    values = {key: rows["value"].tolist() for key, rows in frame.groupby(["metric", "convention"])}
    assert set(values) == {
        *(("Dice", "diff_unet"), ("HD95", "diff_unet")),
        *(("IoU", "strict"), ("NSD@1", "strict"), ("Brier", "strict")),
    }
    assert sorted(values["Dice", "diff_unet"]) == [0, 0, 0.5, 1]
    record = run.folder.read_record()
    assert record.protocol == "diff_unet"
    assert "tolerance 1 mm, or 1 px" in record.metrics["NSD@1"].note
    assert record.metrics["HD95"].unit == "px"
