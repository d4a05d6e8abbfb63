"""Named protocols: their rules in the situations that tell them apart, the gap between them, and their use."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.config import CONF_DIR, compose_config, expand
from bench.errors import InputError
from bench.folder_scores import score_folder
from bench.metrics import METRICS, Pair
from bench.protocols import PROTOCOLS, STRICT, build_protocol, mean_defined
from bench.protocols.gap import GAP_COLUMNS, GAP_METRICS, StoredCase, convention_gap, protocol_mean, stored_cases
from bench.protocols.resizing import bilinear, nearest_image, nearest_volume
from bench.record import read_scores
from bench.runner import Run
from bench.scoring import metric_facts, score_case
from bench.types import Case

SIZE = 16
OBJECT = np.zeros((SIZE, SIZE), bool)
OBJECT[4:12, 4:12] = True
SHIFTED = np.roll(OBJECT, 4, 1)  # half of it: Dice .5
EMPTY = np.zeros_like(OBJECT)
SITUATIONS = {
    "normal": Pair(OBJECT, OBJECT, (2.0, 2.0)),
    "shifted": Pair(SHIFTED, OBJECT, (2.0, 2.0)),
    "missed": Pair(EMPTY, OBJECT, (2.0, 2.0)),
    "hallucinated": Pair(OBJECT, EMPTY, (2.0, 2.0)),
    "both empty": Pair(EMPTY, EMPTY, (2.0, 2.0)),
}
NAN = math.nan
DICE = {  # normal, shifted, missed, hallucinated, both empty
    "strict": (1, 0.5, 0, 0, NAN),
    "sdseg": (1, 0.5, 0, 1, 0),
    "medsegdiff": (1, 0.5, 0, 0, 1),
    "diff_unet": (1, 0.5, 0, 1, 0),
    "diff_unet_validation": (1, 0.5, 0, 0, NAN),
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
    found = [mean_defined(protocol.values(pair, [chosen])[0]) for pair in SITUATIONS.values()]
    expected = {"Dice": DICE, "IoU": IOU, "HD95": HD95}[metric][name]
    assert found == pytest.approx(expected, abs=2e-5, nan_ok=True)
    assert chosen.convention == name


def test_a_volume_with_a_second_slice_is_one_case_except_for_medsegdiff() -> None:
    pair = Pair(np.stack([OBJECT, OBJECT]), np.stack([OBJECT, EMPTY]), (1.0, 1.0, 1.0))
    for name in PROTOCOLS:
        protocol = build_protocol(name, SIZE)
        (values,) = protocol.values(pair, protocol.select(["Dice"]))
        assert values == pytest.approx([1, 0] if name == "medsegdiff" else [2 / 3], abs=1e-5), name
        assert protocol.unit == ("slice" if name == "medsegdiff" else "case")


def test_what_a_protocol_has_no_rule_for_is_strict() -> None:
    protocol = build_protocol("nnunet")
    assert [(m.name, m.convention) for m in protocol.select(["Dice", "HD95"])] == [
        ("Dice", "nnunet"),
        ("HD95", "strict"),
    ]
    assert STRICT.select(METRICS) == list(METRICS.values())
    found = protocol.values(SITUATIONS["shifted"], protocol.select(["HD95", "Dice"]))
    assert found == [[8.0], [0.5]]


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
    found = build_protocol("sdseg", 16)
    pair = Pair(odd, reference, (1.0, 1.0))
    (dice,) = found.values(pair, found.select(["Dice"]))
    assert dice[0] != pytest.approx(METRICS["Dice"](pair), abs=0.05)
    assert build_protocol("sdseg", 32).values(pair, found.select(["Dice"])) == [[pytest.approx(2 / 3)]]


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


def case(name: str, *references: np.ndarray, spacing: tuple[float, ...] | None = None) -> Case:
    reference = np.stack(references)
    return Case(name, name, np.zeros((1, *reference.shape[1:]), np.float32), reference, spacing)


def test_rows_of_a_case_name_their_convention() -> None:
    masks = np.stack([[OBJECT, EMPTY]])
    rows = score_case(
        case("a", EMPTY, EMPTY), ("x", "y"), None, masks, ["Dice", "HD95"], None, build_protocol("sdseg", 16)
    )
    found = {(row["label"], row["metric"]): (row["convention"], row["value"]) for row in rows}
    assert found["x", "Dice"] == ("sdseg", 1)
    assert found["y", "Dice"] == ("sdseg", 0)
    assert found["x", "HD95"] == ("strict", pytest.approx(16 * math.sqrt(2)))
    assert len(rows) == 4


def test_facts_state_units_and_notes() -> None:
    facts = metric_facts(STRICT.select(["Dice", "ASSD", "NSD"]), (1.0, 1.0, 1.0))
    assert facts == {"metric ASSD": "mm", "metric NSD": METRICS["NSD"].note}
    assert metric_facts(STRICT.select(["ASSD"]), None) == {"metric ASSD": "px"}


@pytest.fixture
def gap() -> pd.DataFrame:
    """Two labels, one draw: a: both found; b: x missed, y nowhere; c: x hallucinated, y shifted."""
    cases = [
        StoredCase(case("a", OBJECT, OBJECT), np.stack([[OBJECT, OBJECT]])),
        StoredCase(case("b", OBJECT, EMPTY), np.stack([[EMPTY, EMPTY]])),
        StoredCase(case("c", EMPTY, OBJECT), np.stack([[OBJECT, SHIFTED]])),
    ]
    return convention_gap(cases, size=SIZE)


def test_gap_on_paper(gap: pd.DataFrame) -> None:
    assert list(gap.columns) == GAP_COLUMNS
    assert list(dict.fromkeys(gap["protocol"])) == list(PROTOCOLS)
    assert list(gap.loc[gap["protocol"] == "strict", "metric"]) == list(GAP_METRICS)
    dice = gap[gap["metric"] == "Dice"].set_index("protocol")
    assert dice["mean"].to_dict() == pytest.approx(
        {
            "strict": (1 + 0 + 0.25) / 3,
            "sdseg": (1 + 0 + 0.75) / 3,
            "medsegdiff": (1 + 0.5 + 0.25) / 3,
            "diff_unet": ((1 + 0 + 1) / 3 + (1 + 0 + 0.5) / 3) / 2,
            "diff_unet_validation": ((1 + 0 + 0) / 3 + (1 + 0.5) / 2) / 2,
            "nnunet": ((1 + 0 + 0) / 3 + (1 + 0.5) / 2) / 2,
            "monai": (1 + 0 + 0.5) / 3,
        },
        abs=1e-5,
    )
    assert dice["n_counted"].to_dict() == dict(zip(PROTOCOLS, (5, 6, 6, 6, 5, 5, 4), strict=True))
    assert (dice["n_counted"] + dice["n_dropped"] == 6).all()
    assert dice.loc["medsegdiff", "counted_by"] == "slice and label"
    assert gap.loc[(gap["protocol"] == "monai") & (gap["metric"] == "ASSD"), "mean"].item() == math.inf


def test_gap_says_the_unit(gap: pd.DataFrame) -> None:
    assert set(gap.loc[gap["metric"] == "HD95", "unit"]) == {"px"}
    cases = [StoredCase(case("a", OBJECT, spacing=(0.5, 0.5)), np.stack([[SHIFTED]]))]
    hd95 = convention_gap(cases, size=SIZE, metrics=["HD95"]).set_index("protocol")
    assert hd95["unit"].to_dict() == {
        "strict": "mm",
        "diff_unet": "px",
        "diff_unet_validation": "px",
        "monai": "px",
    }
    assert hd95["mean"].to_dict() == {"strict": 2, "diff_unet": 4, "diff_unet_validation": 4, "monai": 4}


def test_gap_averages_draws_first() -> None:
    cases = [
        StoredCase(case("a", OBJECT), np.stack([[OBJECT], [EMPTY]])),
        StoredCase(case("b", EMPTY), np.stack([[EMPTY], [OBJECT]])),
    ]
    dice = convention_gap(cases, size=SIZE, metrics=["Dice"]).set_index("protocol")
    assert dice.loc["strict", "mean"] == pytest.approx((0.5 + 0) / 2)  # b: undefined, then hallucinated
    assert dice.loc["sdseg", "mean"] == pytest.approx((0.5 + 0.5) / 2)
    assert dice.loc["monai", ["n_counted", "n_dropped"]].tolist() == [1, 1]


def test_nnunet_s_mean_over_labels_is_undefined_with_one_label() -> None:
    index = pd.MultiIndex.from_tuples([("a", 0, 0), ("a", 0, 1)], names=["case", "unit", "label"])
    values = pd.Series([0.5, math.nan], index=index)
    assert math.isnan(protocol_mean(build_protocol("nnunet"), values))
    assert protocol_mean(STRICT, values) == 0.5


def test_label_order_changes_no_mean() -> None:
    rng = np.random.default_rng(0)
    references, masks = rng.random((2, 4, 3, SIZE, SIZE)) < 0.3
    references[1, 2] = masks[3, 1] = False
    plain, turned = (
        convention_gap(
            [StoredCase(case(str(i), *references[i, order]), masks[i, order][None]) for i in range(4)], size=SIZE
        )
        for order in ([0, 1, 2], [2, 0, 1])
    )
    pd.testing.assert_frame_equal(plain, turned)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Predictions, references and where scores go: found by half, missed, hallucinated, nothing."""
    for name, pair in {k: v for k, v in SITUATIONS.items() if k != "normal"}.items():
        for folder, mask in (("pred", pair.prediction), ("ref", pair.reference)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / folder / f"{name}.png")
    return tmp_path / "pred", tmp_path / "ref", tmp_path / "out"


def test_a_folder_under_strict_has_every_metric_of_masks(folders: tuple[Path, Path, Path]) -> None:
    summary = score_folder(*folders)
    found = {name: facts["foreground"] for name, facts in summary["metrics"].items()}
    assert set(found) == {name for name, metric in METRICS.items() if not metric.needs_score}
    assert [found[name]["cases"] for name in ("missed", "hallucinated", "both_empty")] == [1, 1, 1]
    assert "cases" not in found["Dice"]
    diagonal = SIZE * math.sqrt(2)
    assert found["HD95"]["mean"] == pytest.approx((4 + diagonal + diagonal) / 3)
    assert found["HD95"]["n_undefined"] == 1
    assert summary["conventions"]["HD95"]["unit"] == "px"
    assert "2 px" in summary["conventions"]["NSD"]["note"]
    assert summary["conventions"]["NSD"]["better"] == "higher"
    assert json.loads((folders[2] / "summary.json").read_text()) == summary


@pytest.mark.parametrize(
    ("name", "mean", "undefined"), [("diff_unet", 0.375, 0), ("monai", 0.25, 2), ("nnunet", 1 / 6, 1)]
)
def test_a_folder_under_a_paper_s_protocol(
    folders: tuple[Path, Path, Path], name: str, mean: float, undefined: int
) -> None:
    summary = score_folder(*folders, protocol=name)
    dice = summary["metrics"]["Dice"]["foreground"]
    assert (dice["mean"], dice["n_undefined"]) == (pytest.approx(mean), undefined)
    frame = read_scores(folders[2] / "scores.parquet")
    assert set(frame.loc[frame["metric"] == "Dice", "convention"]) == {name}
    assert set(frame.loc[frame["metric"] == "Precision", "convention"]) == {"strict"}
    assert (summary["protocol"], summary["conventions"]["Precision"]["convention"]) == (name, "strict")


def test_a_run_is_scored_under_a_protocol_and_all_of_them(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "ref").rename(data / "masks")
    (data / "images").mkdir()
    for path in (data / "masks").iterdir():
        Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(data / "images" / path.name)
    overrides = ["dataset=folder", f"dataset.root={data}", "dataset.split=[0,0,1]", "method=predictions", "draws=1"]
    overrides += [f"method.options.root={folders[0]}", f"runs_dir={tmp_path / 'runs'}", "seed=0", "image_size=16"]
    overrides += ["metrics=[Dice,IoU,HD95,NSD@1,Brier]", "protocol=diff_unet"]
    run = Run(expand(overrides)[0])
    for step in (run.fit, run.predict, run.score):
        step()
    frame = read_scores(run.folder.scores_path)
    values = {key: rows["value"].tolist() for key, rows in frame.groupby(["metric", "convention"])}
    assert set(values) == {
        *(("Dice", "diff_unet"), ("HD95", "diff_unet")),
        *(("IoU", "strict"), ("NSD@1", "strict"), ("Brier", "strict")),
    }
    assert sorted(values["Dice", "diff_unet"]) == [0, 0, 0.5, 1]
    record = run.folder.read_record()
    assert record.protocol == "diff_unet"
    assert "tolerance 1 mm, or 1 px" in record.data["metric NSD@1"]
    assert record.data["metric HD95"].startswith("px; ")
    gap = convention_gap(stored_cases(run.folder, run.dataset, 1), size=SIZE, metrics=["Dice"]).set_index("protocol")
    assert gap["mean"].to_dict() == pytest.approx(
        {
            "strict": 0.5 / 3,
            "sdseg": 1.5 / 4,
            "medsegdiff": 1.5 / 4,
            "diff_unet": 1.5 / 4,
            "diff_unet_validation": 0.5 / 3,
            "nnunet": 0.5 / 3,
            "monai": 0.5 / 2,
        },
        abs=1e-5,
    )
    assert gap["n_dropped"].tolist() == [1, 0, 0, 0, 1, 1, 2]
