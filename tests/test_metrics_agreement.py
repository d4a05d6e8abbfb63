"""Metrics agree with MONAI, torchmetrics, SciPy, scikit-image and nnU-Net, and differ where definitions do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, distance_transform_edt

from bench.metrics import METRICS, select
from bench.metrics.boundary import surface
from bench.protocols import build_protocol
from tests.metric_pairs import TOLERANCE, metric_pairs, monai_values, third_party

PAIRS = metric_pairs()
DEFINED = [pair for pair in PAIRS if pair.n_prediction and pair.n_reference]
EVERY = 5  # MONAI takes a tenth of a second a pair


def test_there_are_enough_pairs() -> None:
    assert len(PAIRS) == 192
    assert len(DEFINED) > 110
    assert {pair.reference.ndim for pair in PAIRS} == {2, 3}
    assert sum(pair.missed for pair in PAIRS) >= 16
    assert sum(pair.hallucinated for pair in PAIRS) >= 16


def test_surfaces_and_distances_equal_scipy() -> None:
    for pair in DEFINED:
        edges = [mask & ~binary_erosion(mask) for mask in (pair.prediction, pair.reference)]
        assert np.array_equal(surface(pair.prediction), edges[0])
        far = [distance_transform_edt(~edge, sampling=pair.spacing_mm) for edge in edges]
        for ours, expected in zip(pair.surfaces, (far[1][edges[0]], far[0][edges[1]]), strict=True):
            np.testing.assert_allclose(np.sort(ours), np.sort(expected), rtol=1e-12, atol=1e-12)


def test_metrics_equal_monai_where_both_masks_have_elements() -> None:
    nsd = select([f"NSD@{TOLERANCE}"])[0]
    for pair in DEFINED[::EVERY]:
        expected = monai_values(pair)
        ours = {name: METRICS[name](pair) for name in expected} | {"NSD": nsd(pair)}
        assert ours == pytest.approx(expected, rel=2e-6, abs=1e-6)


def test_the_monai_protocol_equals_monai_where_a_mask_is_empty() -> None:
    protocol = build_protocol("monai")
    metrics = protocol.select(["Dice", "IoU", "HD95", "ASSD", "NSD"])
    pairs = [pair.in_pixels for pair in PAIRS if not (pair.n_prediction and pair.n_reference)]
    for pair in pairs[::EVERY]:
        ours = {m.name: v[0] for m, v in zip(metrics, protocol.values(pair, metrics), strict=True)}
        assert ours == pytest.approx(monai_values(pair), nan_ok=True)


def test_overlap_equals_torchmetrics() -> None:
    functional = third_party("torchmetrics.functional.classification")
    oracles = {
        "Dice": functional.binary_f1_score,
        "IoU": functional.binary_jaccard_index,
        "Sensitivity": functional.binary_recall,
        "Precision": functional.binary_precision,
    }
    for pair in PAIRS:
        masks = [torch.from_numpy(mask).int() for mask in (pair.prediction, pair.reference)]
        for name, oracle in oracles.items():
            ours = METRICS[name](pair)
            # torchmetrics gives 0 to two empty masks, which are undefined here.
            assert math.isnan(ours) if pair.both_empty else ours == pytest.approx(float(oracle(*masks)), abs=1e-6)


def test_calibration_equals_torchmetrics() -> None:
    error = third_party("torchmetrics.functional.classification").binary_calibration_error
    for pair in PAIRS:
        score, target = torch.from_numpy(pair.score).double().ravel(), torch.from_numpy(pair.reference).ravel()
        assert METRICS["ECE"](pair) == pytest.approx(float(error(score, target.int(), n_bins=15)), abs=1e-6)
        assert METRICS["Brier"](pair) == pytest.approx(float((score - target.double()).square().mean()), abs=1e-12)


def test_nnunet_protocol_equals_nnunet() -> None:
    evaluation = pytest.importorskip("nnunetv2.evaluation.evaluate_predictions", reason="nnunetv2 is not installed")
    protocol = build_protocol("nnunet")
    metrics = protocol.select(["Dice", "IoU"])
    for pair in PAIRS:
        tp, fp, fn, _ = evaluation.compute_tp_fp_fn_tn(pair.reference, pair.prediction)
        expected = (2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn)) if tp + fp + fn else (math.nan, math.nan)
        assert [v[0] for v in protocol.values(pair, metrics)] == pytest.approx(expected, nan_ok=True)


def test_medpy_s_pooled_percentile_is_another_number() -> None:
    # Ours is the larger of the directed percentiles; medpy (TransUNet, Swin-Unet) takes that of both sets together.
    smaller = 0
    for pair in DEFINED:
        pooled = float(np.percentile(pair.surfaces.pooled, 95, method="inverted_cdf"))
        directed = max(float(np.percentile(x, 95, method="inverted_cdf")) for x in pair.surfaces)
        assert pooled <= directed
        smaller += pooled < directed
    assert smaller > len(DEFINED) / 4
