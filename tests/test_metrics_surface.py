"""Surface, volume and calibration metrics: values one can check on paper, empty masks, and properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.errors import InputError
from bench.metrics import MASK_METRICS, METRICS, Pair, select
from bench.metrics.boundary import surface

SYMMETRIC = ("Dice", "IoU", "HD95", "ASSD", "NSD", "VolumeDifference")
SHARES = ("Dice", "IoU", "Sensitivity", "Precision", "NSD", "ECE", "Brier")
BEST = {"Dice": 1, "IoU": 1, "Sensitivity": 1, "Precision": 1, "HD95": 0, "ASSD": 0, "NSD": 1}
BEST |= {"VolumeDifference": 0, "RelativeVolumeDifference": 0, "VolumeBias": 0}
shapes = st.sampled_from([(5, 6), (3, 4, 5)])
masks = shapes.flatmap(lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape)))


def values(pair: Pair, names: tuple[str, ...] = MASK_METRICS) -> dict[str, float]:
    return {name: METRICS[name](pair) for name in names}


def drawn(text: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in text.split()])


def point(*place: int, shape: tuple[int, ...] = (8, 8, 8)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[place] = True
    return mask


def test_surface_is_what_has_a_face_outside() -> None:
    assert np.array_equal(surface(drawn("##### ##### ##### ##### #####")), drawn("##### #...# #...# #...# #####"))
    assert np.array_equal(surface(drawn("..... .###. .###. .###. .....")), drawn("..... .###. .#.#. .###. ....."))
    thick = np.ones((3, 3, 3), bool)
    assert np.argwhere(~surface(thick)).tolist() == [[1, 1, 1]]


def test_two_points_on_paper() -> None:
    # Two elements apart along the first axis, one along the last: 2 x 3 mm and 0.5 mm.
    pair = Pair(point(1, 2, 3), point(3, 2, 4), (3.0, 1.0, 0.5))
    apart = math.hypot(6, 0.5)
    assert values(pair, ("HD95", "ASSD", "NSD")) == pytest.approx({"HD95": apart, "ASSD": apart, "NSD": 0})
    assert select(["NSD@6.1"])[0](pair) == 1
    assert values(pair.in_pixels, ("HD95",)) == {"HD95": pytest.approx(math.sqrt(5))}


def test_rows_on_paper() -> None:
    # The prediction is the row and one element five below its middle: distances 0 x 9, 5, and 0 x 9 back.
    row = np.zeros((8, 9), bool)
    row[1] = True
    more = row.copy()
    more[6, 4] = True
    pair = Pair(more, row)
    assert METRICS["HD95"](pair) == pytest.approx(2.75)  # between the 9th and the 10th of ten: 5 x .55
    assert METRICS["ASSD"](pair) == pytest.approx(5 / 19)
    assert METRICS["NSD"](pair) == pytest.approx(18 / 19)
    assert select(["NSD@5"])[0](pair) == 1  # a tolerance is inclusive


def test_a_tolerance_is_met_up_to_rounding() -> None:
    pair = Pair(point(1, shape=(12,)), point(4, shape=(12,)), (0.7,))
    assert select(["NSD@2.1"])[0](pair) == 1
    assert select(["NSD@2.0999"])[0](pair) == 0


def test_volumes_on_paper() -> None:
    prediction, reference = np.zeros((2, 4, 5), bool), np.zeros((2, 4, 5), bool)
    prediction[0], reference[:, :2] = True, True  # 20 and 20 elements, then 20 and 10
    assert METRICS["VolumeBias"](Pair(prediction, reference, (5.0, 2.0, 2.0))) == 0
    reference[1] = False
    pair = Pair(prediction, reference, (5.0, 2.0, 2.0))
    names = ("VolumeDifference", "VolumeBias", "RelativeVolumeDifference")
    assert values(pair, names) == pytest.approx({names[0]: 0.2, names[1]: 0.2, names[2]: 1.0})  # 10 x 20 mm3
    swapped = Pair(reference, prediction, None)
    assert values(swapped, names) == {names[0]: 10, names[1]: -10, names[2]: 0.5}
    flat = Pair(prediction[0], reference[0], (2.0, 2.0))
    assert METRICS["VolumeDifference"](flat) == 40  # mm2


@pytest.mark.parametrize(
    ("spacing", "units"),
    [
        (None, {"HD95": "px", "ASSD": "px", "VolumeBias": "px", "Dice": "", "missed": "cases"}),
        ((1.0, 1.0), {"HD95": "mm", "ASSD": "mm", "VolumeBias": "mm2", "Dice": "", "missed": "cases"}),
        ((1.0, 1.0, 2.0), {"HD95": "mm", "ASSD": "mm", "VolumeBias": "ml", "Dice": "", "missed": "cases"}),
    ],
)
def test_units_follow_the_spacing(spacing: tuple[float, ...] | None, units: dict[str, str]) -> None:
    assert {name: METRICS[name].unit_on(spacing) for name in units} == units


def test_the_tolerance_is_stated() -> None:
    assert "2 mm" in METRICS["NSD"].note
    assert "2 px" in METRICS["NSD"].note
    assert "1.5 mm" in select(["NSD@1.5"])[0].note
    with pytest.raises(InputError, match="did you mean 'NSD'"):
        select(["NSD@x"])


EMPTY, FULL = np.zeros((3, 4), bool), np.ones((3, 4), bool)
DIAGONAL = 25.0  # 3 x 5 mm and 4 x 5 mm
STRICT = [  # prediction, reference, overlap and NSD, distances, missed, hallucinated, both empty
    (EMPTY, EMPTY, math.nan, math.nan, 0, 0, 1),
    (EMPTY, FULL, 0, DIAGONAL, 1, 0, 0),
    (FULL, EMPTY, 0, DIAGONAL, 0, 1, 0),
    (FULL, FULL, 1, 0, 0, 0, 0),
]


@pytest.mark.parametrize(("prediction", "reference", "share", "distance", "missed", "hallucinated", "both"), STRICT)
def test_strict_says_what_an_empty_mask_is_worth(
    prediction, reference, share, distance, missed, hallucinated, both
) -> None:
    measured = values(Pair(prediction, reference, (5.0, 5.0)))
    for name in ("Dice", "IoU", "Sensitivity", "Precision", "NSD"):
        assert measured[name] == pytest.approx(share, nan_ok=True), name
    for name in ("HD95", "ASSD"):
        assert measured[name] == pytest.approx(distance, nan_ok=True), name
    assert (measured["missed"], measured["hallucinated"], measured["both_empty"]) == (missed, hallucinated, both)
    assert math.isnan(measured["RelativeVolumeDifference"]) == (not reference.any())


def test_calibration_on_paper() -> None:
    reference = drawn("##.. ....")
    score = np.array([[0.9, 0.5, 0.1, 0.1], [0, 0, 0, 0.9]], np.float32)
    pair = Pair(score > 0.6, reference, score=score)
    assert METRICS["Brier"](pair) == pytest.approx((0.01 + 0.25 + 0.01 + 0.01 + 0.81) / 8)
    # Bins of 1/15: 0 with 3, .1 with 2, .5 with 1, .9 with 2; shares of foreground 0, 0, 1, .5.
    assert METRICS["ECE"](pair) == pytest.approx((3 * 0 + 2 * 0.1 + 1 * 0.5 + 2 * 0.4) / 8)
    with pytest.raises(InputError, match="need the soft score"):
        METRICS["ECE"](Pair(reference, reference))


def test_calibration_of_large_maps_is_summed_in_parts() -> None:
    rng = np.random.default_rng(0)
    score = rng.random((2, 512, 700)).astype(np.float32)
    reference = rng.random(score.shape) < score
    pair = Pair(score > 0.5, reference, score=score)
    assert METRICS["ECE"](pair) < 0.01  # as often as it says
    assert METRICS["Brier"](pair) == pytest.approx(np.square(score.astype(float) - reference).mean())


@settings(max_examples=15, deadline=None)
@given(masks)
def test_identity_symmetry_and_bounds(pair: tuple[np.ndarray, np.ndarray]) -> None:
    forward, backward = (Pair(a, b, (1.5,) * a.ndim) for a, b in (pair, pair[::-1]))
    found, turned = values(forward), values(backward)
    for name in SYMMETRIC:
        assert found[name] == pytest.approx(turned[name], nan_ok=True), name
    assert found["Sensitivity"] == pytest.approx(turned["Precision"], nan_ok=True)
    assert found["VolumeBias"] == -turned["VolumeBias"]
    for name in SHARES[:5]:
        assert math.isnan(found[name]) or 0 <= found[name] <= 1
    for name in ("HD95", "ASSD"):
        assert math.isnan(found[name]) or 0 <= found[name] <= forward.diagonal
    assert found["missed"] + found["hallucinated"] + found["both_empty"] <= 1
    same = values(Pair(pair[0], pair[0].copy(), (1.5,) * pair[0].ndim), tuple(BEST))
    assert same == pytest.approx(BEST) or not pair[0].any()


@settings(max_examples=15, deadline=None)
@given(masks, st.integers(1, 3), st.integers(0, 2))
def test_padding_changes_nothing(pair: tuple[np.ndarray, np.ndarray], before: int, after: int) -> None:
    spacing = tuple(np.linspace(0.5, 2, pair[0].ndim))
    measured = values(Pair(*pair, spacing))
    wide = values(Pair(*(np.pad(mask, [(before, after)] * mask.ndim) for mask in pair), spacing))
    # Only where one mask is empty do distances speak of the image, whose diagonal has grown.
    one_empty = pair[0].any() != pair[1].any()
    for name in set(measured) - ({"HD95", "ASSD"} if one_empty else set()):
        assert wide[name] == pytest.approx(measured[name], nan_ok=True), name
    if one_empty:
        assert wide["HD95"] > measured["HD95"]


def test_moving_further_away_is_never_better() -> None:
    reference = np.zeros((40, 12), bool)
    reference[3:9, 3:9] = True
    steps = [values(Pair(np.roll(reference, shift, 0), reference, (0.7, 2.0))) for shift in range(12)]
    for name, better in (("Dice", 1), ("NSD", 1), ("HD95", -1), ("ASSD", -1)):
        course = [better * step[name] for step in steps]
        assert course == sorted(course, reverse=True), name
        assert course[0] > course[-1]


def test_distances_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = Pair.surfaces.func  # type: ignore[attr-defined]
    monkeypatch.setattr(Pair.surfaces, "func", lambda pair: calls.append(1) or original(pair))
    values(Pair(point(1, 1, 1), point(2, 2, 2)))
    assert calls == [1]
