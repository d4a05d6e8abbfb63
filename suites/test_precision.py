"""What half precision costs: each part in each arithmetic, for each prediction, against float32 on the test split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from bench.datasets.geometry import resample_mask, to_method_size
from bench.metrics.overlap import dice
from bench.metrics.pair import Pair
from bench.record import Score
from bench.runner import Run, load_segmenter
from bench.seeding import CaseGenerator

PARTS = ("encoder", "denoiser", "decoder")
ARITHMETIC = ("float16", "bfloat16")

pytestmark = pytest.mark.cells(["method=sdseg"], ["method=sdseg_z0"], ["method=sdseg_v"])


def in_precision(config: dict[str, Any], **parts: str) -> dict[str, Any]:
    """The configuration with these parts in another arithmetic and all others in float32."""
    method = config["method"]
    precision = {**dict.fromkeys(PARTS, "float32"), **parts}
    inference = {**method["inference"], "precision": precision, "allow_amplified": True}
    return {**config, "method": {**method, "inference": inference}}


def answers(run: Run, config: dict[str, Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(z0 (c, h, w), mask (L, H, W)) of every test case, draw 0, one at a time."""
    segmenter = load_segmenter(config, run.dataset.spec, run.folder)
    segmenter.describe()
    for case_id in run.dataset.case_ids("test"):
        image = to_method_size(run.dataset.case(case_id).image, run.dataset.spec)[None].to(segmenter.device)
        generator = CaseGenerator(run.cell.seed, case_id, 0)
        z_T = torch.randn((1, *segmenter.model.latent_shape(*image.shape[-2:])), generator=generator).to(image.device)
        with torch.inference_mode(), segmenter.arithmetic():
            z0 = segmenter.model.estimate(image, z_T)
            yield z0[0].cpu(), segmenter.model.answer(image, z0).mask[0].cpu()


@pytest.mark.parametrize("part", [*PARTS, "all"])
@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_precision(run: Run, part: str, arithmetic: str, benchmark, publish) -> None:
    """Dice, share of mask pixels that flip, and the error of z0 in units of the latents' spread."""
    parts = dict.fromkeys(PARTS if part == "all" else [part], arithmetic)
    expected = list(answers(run, in_precision(run.cell.config)))
    answered = benchmark.pedantic(lambda: list(answers(run, in_precision(run.cell.config, **parts))), rounds=1)
    flipped = torch.stack([(a[1] != b[1]).float().mean() for a, b in zip(answered, expected, strict=True)]).mean()
    error = torch.stack([(a[0] - b[0]).square().mean() for a, b in zip(answered, expected, strict=True)]).mean().sqrt()
    now, before = (_mean_dice(run, masks) for masks in (answered, expected))
    name = f"{part}_{arithmetic}"
    publish(
        [
            Score(metric=f"dice_{name}", value=now, better="higher"),
            Score(metric="dice_float32", value=before, better="higher"),
            Score(metric=f"flipped_{name}", value=float(flipped), better="lower", note="share of mask pixels"),
            Score(metric=f"z0_rmse_{name}", value=float(error), better="lower", note="latents have unit spread"),
        ]
    )
    assert torch.isfinite(error)


def _mean_dice(run: Run, answered: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    values = []
    for case_id, (_, mask) in zip(run.dataset.case_ids("test"), answered, strict=True):
        case = run.dataset.case(case_id)
        native = resample_mask(mask, case.image.shape[1:]).numpy()
        values += [dice(Pair(*pair, case.spacing_mm)) for pair in zip(native, case.reference, strict=True)]
    return float(np.nanmean(values))
