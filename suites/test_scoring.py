"""Scoring volumes with all metrics against MONAI's metric functions called one by one: ratio of time, peak memory.

Twelve volumes of the profile's image size in the plane: 256 x 256 x 130 with `--profile cpu`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from bench.config import compose_config
from bench.measure.interleaved import measure_interleaved
from bench.measure.memory import measure_peak_memory
from bench.metrics import METRICS, Metric, Pair, select
from bench.metrics.surface import TOLERANCE
from bench.plugin import overrides, plain_scores
from bench.record import Score
from bench.results.environment import device_facts
from sdseg.torchvision_ops import declare_missing_operators

VOLUMES = 12
ROUNDS = 3
SPACING = (2.5, 0.8, 0.8)
# What both can do; ours has more.
COMMON = ("Dice", "IoU", "Sensitivity", "Precision", "HD95", "ASSD", "NSD")


class Volume(NamedTuple):
    """Masks (D, H, W) bool and the score behind the prediction, float16 as a run stores it."""

    prediction: np.ndarray
    reference: np.ndarray
    score: np.ndarray


def make_volume(index: int, size: int) -> Volume:
    """Organs with uneven surfaces: one large, three small, found with an error that varies along the surface."""
    shape = (max(8, round(size * 130 / 256)), size, size)
    rng = np.random.default_rng(index)
    field = np.full(shape, np.inf, np.float32)
    wrong = np.zeros(shape, np.float32)
    axes = [np.linspace(0, 1, n, dtype=np.float32) for n in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    for radius in (0.25, 0.1, 0.08, 0.05):
        centre, phase = rng.uniform(0.3, 0.7, 3), rng.uniform(0, 6, 2)
        away = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) / radius
        bumps = 0.08 * np.sin(25 * x + phase[0]) * np.sin(19 * y + 11 * z)
        field = np.minimum(field, away + bumps)
        wrong += 0.05 * np.sin(40 * z + phase[1]) * np.sin(31 * y)
    score = 1 / (1 + np.exp(np.clip(20 * (field + wrong - 1), -50, 50)))
    return Volume(field + wrong < 1, field < 1, score.astype(np.float16))


def score_ours(volume: Volume, metrics: list[Metric]) -> dict[str, float]:
    """Metrics over one pair."""
    pair = Pair(volume.prediction, volume.reference, SPACING, volume.score)
    return {metric.name: metric(pair) for metric in metrics}


def monai_metrics() -> Any:
    """MONAI's module, imported only by who needs it: it takes memory too."""
    declare_missing_operators()
    return importlib.import_module("monai.metrics")


def score_monai(volume: Volume) -> dict[str, float]:
    """COMMON by MONAI's functions, one after the other."""
    monai = monai_metrics()
    masks = [torch.from_numpy(mask)[None, None].float() for mask in (volume.prediction, volume.reference)]
    where: dict[str, Any] = {"include_background": True, "spacing": SPACING}

    def confusion(name: str) -> torch.Tensor:
        return monai.compute_confusion_matrix_metric(name, monai.get_confusion_matrix(*masks))

    per_metric = (
        monai.compute_dice(*masks),
        monai.compute_iou(*masks),
        confusion("sensitivity"),
        confusion("precision"),
        monai.compute_hausdorff_distance(*masks, percentile=95, **where),
        monai.compute_average_surface_distance(*masks, symmetric=True, **where),
        monai.compute_surface_dice(*masks, class_thresholds=[TOLERANCE], **where),
    )
    return {name: float(value) for name, value in zip(COMMON, per_metric, strict=True)}


def scorers() -> dict[str, Callable[[Volume], dict[str, float]]]:
    """All our metrics, those that MONAI has too, and MONAI's."""
    every, common = list(METRICS.values()), select(COMMON)
    return {
        "all": lambda volume: score_ours(volume, every),
        "common": lambda volume: score_ours(volume, common),
        "monai": score_monai,
    }


def test_scoring_of_volumes(request: pytest.FixtureRequest, benchmark) -> None:
    """Both give the same numbers; how many times faster ours are, and the peak memory of one volume each."""
    benchmark.group = "test_scoring_of_volumes"
    size = compose_config(overrides(request.config))["image_size"]
    volumes = [make_volume(index, size) for index in range(VOLUMES)]
    calls = {name: lambda scorer=scorer: [scorer(v) for v in volumes] for name, scorer in scorers().items()}
    settings = {"rounds": ROUNDS, "warmup": 1, "synchronize": lambda: None, "samples": dict.fromkeys(calls, VOLUMES)}
    result = benchmark.pedantic(measure_interleaved, args=(calls,), kwargs=settings, rounds=1)
    for volume in volumes[:2]:
        assert score_ours(volume, select(COMMON)) == pytest.approx(score_monai(volume), rel=1e-4)
    scores = []
    for name in ("all", "common"):
        ratio = result.speedup(name, "monai")
        note = f"over MONAI's {len(COMMON)}, interleaved; 95 % interval {ratio.low:.2f} to {ratio.high:.2f}"
        scores.append(Score(metric=f"speedup_{name}", value=ratio.value, better="higher", note=note))
    for name in calls:
        scores.append(Score(metric=f"{name}_s_per_volume", value=result.per_sample(name), unit="s", better="lower"))
        memory = measure_peak_memory("suites.test_scoring:memory_target", {"scorer": name, "size": size})
        scores.append(Score(metric=f"{name}_peak_mib", value=memory.peak_mib, unit="MiB", better="lower"))
        added = memory.peak_mib - memory.baseline_rss_mib
        scores.append(Score(metric=f"{name}_added_mib", value=added, unit="MiB", better="lower"))
    benchmark.extra_info.update({**plain_scores(scores), "device": device_facts("cpu")["name"]})
    benchmark.extra_info["volume"] = " x ".join(map(str, volumes[0].reference.shape[::-1]))
    benchmark.extra_info["intervals"] = {score.metric: score.note for score in scores if score.note}


def memory_target(argument: dict[str, Any]) -> Callable[[], object]:
    """For the memory process: one volume, made before, as MONAI is imported before."""
    if argument["scorer"] == "monai":
        monai_metrics()
    scorer, volume = scorers()[argument["scorer"]], make_volume(0, argument["size"])
    return lambda: scorer(volume)
