"""The convention gap: what each protocol makes of the same predictions, in a run, when killed, and of a folder."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from bench import cli
from bench.metrics import Pair
from bench.protocols import PROTOCOLS, STRICT, build_protocol
from bench.protocols.diff_unet import whole_object_hd95
from bench.protocols.gap import GAP_COLUMNS, GAP_METRICS, GapValue, gap_table, pair_values, plan, protocol_mean
from bench.record import read_scores
from bench.results.stored import StoredCase, read_case
from bench.runner import Run
from bench.scoring import case as scoring
from bench.scoring import run as run_module
from bench.scoring.folder import score_folder
from tests.protocol_fixtures import EMPTY, OBJECT, SHIFTED, SIZE, case, predicted_run, write_masks

ON_FOUR_MASKS = {  # found by half, missed, hallucinated, nothing
    "strict": 0.5 / 3,
    "sdseg": 1.5 / 4,
    "medsegdiff": 1.5 / 4,
    "diff_unet": 1.5 / 4,
    "diff_unet_validation": 0.5 / 3,
    "ssformer": (255 * 0.5 + 2 * 0.4) / 256 / 4,
    "nnunet": 0.5 / 3,
    "monai": 0.5 / 2,
}


def case_values(stored: StoredCase, *, size: int, metrics: Sequence[str]) -> list[GapValue]:
    planned = plan(size, metrics)
    return [v for draw, label, pair in stored.pairs() for v in pair_values(pair, planned, stored.id, label, draw)]


def gap_of(cases: Iterable[StoredCase], metrics: Sequence[str] = GAP_METRICS) -> pd.DataFrame:
    return gap_table(
        [value for stored in cases for value in case_values(stored, size=SIZE, metrics=metrics)], size=SIZE
    )


@pytest.fixture
def gap() -> pd.DataFrame:
    """Two labels, one draw: a: both found; b: x missed, y nowhere; c: x hallucinated, y shifted."""
    cases = [
        StoredCase.of(case("a", OBJECT, OBJECT), np.stack([[OBJECT, OBJECT]])),
        StoredCase.of(case("b", OBJECT, EMPTY), np.stack([[EMPTY, EMPTY]])),
        StoredCase.of(case("c", EMPTY, OBJECT), np.stack([[OBJECT, SHIFTED]])),
    ]
    return gap_of(cases)


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
            # a reference that is there adds .4 / 256, found or not
            "ssformer": (255 * (1 + 0 + 0.25) + 0.4 * (1 + 0.5 + 0.5)) / 256 / 3,
            "nnunet": ((1 + 0 + 0) / 3 + (1 + 0.5) / 2) / 2,
            "monai": (1 + 0 + 0.5) / 3,
        },
        abs=1e-5,
    )
    assert dice["n_counted"].to_dict() == dict(zip(PROTOCOLS, (5, 6, 6, 6, 5, 6, 5, 4), strict=True))
    assert (dice["n_counted"] + dice["n_dropped"] == 6).all()
    assert dice.loc["medsegdiff", "counted_by"] == "slice and label"
    assert gap.loc[(gap["protocol"] == "monai") & (gap["metric"] == "ASSD"), "mean"].item() == math.inf


def test_gap_says_the_unit(gap: pd.DataFrame) -> None:
    assert set(gap.loc[gap["metric"] == "HD95", "unit"]) == {"px"}
    cases = [StoredCase.of(case("a", OBJECT, spacing=(0.5, 0.5)), np.stack([[SHIFTED]]))]
    hd95 = gap_of(cases, ["HD95"]).set_index("protocol")
    assert hd95["unit"].to_dict() == {"strict": "mm", "diff_unet": "px", "diff_unet_validation": "px", "monai": "px"}
    assert hd95["mean"].to_dict() == {"strict": 2, "diff_unet": 4, "diff_unet_validation": 4, "monai": 4}


def test_draws_are_averaged_first() -> None:
    cases = [
        StoredCase.of(case("a", OBJECT), np.stack([[OBJECT], [EMPTY]])),
        StoredCase.of(case("b", EMPTY), np.stack([[EMPTY], [OBJECT]])),
    ]
    dice = gap_of(cases, ["Dice"]).set_index("protocol")
    assert dice.loc["strict", "mean"] == pytest.approx((0.5 + 0) / 2)  # b: undefined, then hallucinated
    assert dice.loc["sdseg", "mean"] == pytest.approx((0.5 + 0.5) / 2)
    assert dice.loc["monai", ["n_counted", "n_dropped"]].tolist() == [1, 1]
    (first, second) = (case_values(stored, size=SIZE, metrics=["ASSD"]) for stored in cases)
    assert {value.protocol: value.value for value in first}["monai"] == math.inf
    assert math.isinf({value.protocol: value.value for value in second}["monai"])


def test_a_volume_has_parts_where_slices_count() -> None:
    volume = case("v", np.stack([OBJECT, EMPTY]), spacing=(1.0, 1.0, 1.0))
    stored = StoredCase.of(volume, np.stack([[[OBJECT, OBJECT]]]))
    parts: dict[str, list[tuple[int, float]]] = {name: [] for name in PROTOCOLS}
    for value in case_values(stored, size=SIZE, metrics=["Dice"]):
        parts[value.protocol].append((value.part, round(value.value, 3)))
    assert parts["medsegdiff"] == [(0, 1.0), (1, 0.0)]
    assert parts["strict"] == [(0, 0.667)]


def test_nnunet_s_mean_over_labels_is_undefined_with_one_label() -> None:
    values = [GapValue("nnunet", "Dice", "", "a", label, 0, 0, value) for label, value in ((0, 0.5), (1, math.nan))]
    frame = pd.DataFrame(values)
    assert math.isnan(protocol_mean(build_protocol("nnunet"), frame))
    assert protocol_mean(STRICT, frame) == 0.5


def test_label_order_changes_no_mean() -> None:
    rng = np.random.default_rng(0)
    references, masks = rng.random((2, 4, 3, SIZE, SIZE)) < 0.3
    references[1, 2] = masks[3, 1] = False
    plain, turned = (
        gap_of([StoredCase.of(case(str(i), *references[i, order]), masks[i, order][None]) for i in range(4)])
        for order in ([0, 1, 2], [2, 0, 1])
    )
    pd.testing.assert_frame_equal(plain, turned)


@pytest.mark.parametrize("shape", [(9, 14), (5, 8, 7)])
def test_whole_object_distances_are_those_of_all_voxels(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    for density in (0.05, 0.4, 0.9):
        prediction, reference = rng.random((2, *shape)) < density
        prediction.flat[0] = reference.flat[-1] = True
        apart = cdist(np.argwhere(prediction), np.argwhere(reference))
        expected = np.percentile([*apart.min(0), *apart.min(1)], 95)
        assert whole_object_hd95(Pair(prediction, reference)) == pytest.approx(expected)


@pytest.fixture
def masks_run(tmp_path: Path) -> Run:
    """Four masks as a run's predictions, not scored yet."""
    return predicted_run(write_masks(tmp_path), tmp_path)


def test_scoring_leaves_the_gap_beside_the_scores(masks_run: Run) -> None:
    masks_run.score()
    frame = pd.read_parquet(masks_run.folder.conventions_path)
    ids = masks_run.dataset.case_ids("test")
    pd.testing.assert_frame_equal(
        frame, gap_of(read_case(masks_run.folder, masks_run.dataset, name, 1) for name in ids)
    )
    dice = frame[frame["metric"] == "Dice"].set_index("protocol")
    assert dice["mean"].to_dict() == pytest.approx(ON_FOUR_MASKS, abs=1e-5)
    assert dice["n_dropped"].tolist() == [1, 0, 0, 0, 1, 0, 1, 2]
    assert frame.loc[(frame["protocol"] == "monai") & (frame["metric"] == "ASSD"), "mean"].item() == math.inf


def test_a_run_without_the_gap_is_scored_again(masks_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    masks_run.score()
    before = pd.read_parquet(masks_run.folder.conventions_path)
    masks_run.folder.conventions_path.unlink()
    masks_run.score()
    pd.testing.assert_frame_equal(pd.read_parquet(masks_run.folder.conventions_path), before)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("was scored already")

    monkeypatch.setattr(scoring, "score_case", fail)
    masks_run.score()


def test_lpips_that_was_there_stays_and_one_that_was_not_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = write_masks(tmp_path)
    first = folders[0].rename(tmp_path / "first")
    for draw in (0, 1):
        shutil.copytree(first, folders[0] / f"draw-{draw}")
    run = predicted_run(folders, tmp_path, "draws=2", "metrics=[Dice]")
    trunk = SimpleNamespace(
        device="cpu", facts=lambda: {"lpips_trunk": "ImageNet AlexNet"}
    )  # these images are too small
    scored: list[str] = []
    original = scoring.score_case
    monkeypatch.setattr(scoring, "score_case", lambda s, *o: scored.append(s.id) or original(s, *o))

    def score(lpips: Any) -> tuple[int, dict[str, str]]:
        scored.clear()
        monkeypatch.setattr(run_module, "open_lpips", lambda *_: (lpips, "" if lpips else "no trunk"))
        run.score()
        return len(scored), run.folder.read_record().data

    count, without = score(None)
    assert (count, "lpips_trunk" in without) == (4, False)
    assert run.folder.read_record().notes[0] == "no trunk"
    assert score(None)[0] == 0
    count, with_trunk = score(trunk)
    assert (count, "lpips_trunk" in with_trunk) == (4, True)
    assert with_trunk["scoring"] == without["scoring"]
    assert score(None) == (0, with_trunk)
    assert score(trunk)[0] == 0


def test_a_folder_under_every_protocol(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folders = write_masks(tmp_path)
    pred, ref, out = (str(path) for path in folders)
    assert cli.main(["score-folder", pred, ref, "--out", out, "--conventions", "--size", "16"]) == 0
    text = capsys.readouterr().out
    frame = pd.read_parquet(folders[2] / "conventions.parquet")
    assert list(frame.columns) == GAP_COLUMNS
    dice = frame[frame["metric"] == "Dice"].set_index("protocol")["mean"]
    assert dice.to_dict() == pytest.approx(ON_FOUR_MASKS, abs=1e-5)
    row = next(line.split() for line in text.split("under every protocol")[1].splitlines() if line.startswith("Dice"))
    assert row == ["Dice", *(f"{dice[name]:.3f}" for name in PROTOCOLS), f"{1.5 / 4 - dice['ssformer']:.3f}", *row[10:]]
    score_folder(*folders)
    assert not (folders[2] / "conventions.parquet").exists()  # it would speak of other masks
    assert len(read_scores(folders[2] / "scores.parquet")) > 0
