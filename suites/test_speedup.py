"""Speed as ratios per SDSeg cell, all in one interleaved run: the official loop, exact mode and fast mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from bench.datasets.geometry import to_method_size
from bench.device import synchronize
from bench.measure.interleaved import InterleavedResult, measure_interleaved
from bench.record import Score
from bench.runner import Run, load_segmenter
from bench.seeding import CaseGenerator
from suites.reference_loop import official_loop

# Share of pixels that exact mode may decide otherwise than the official loop.
FLIPPED = 1e-4
MODES = {"exact": "frozen", "fast": "light"}


def with_decoder(config: dict[str, Any], decoder: str) -> dict[str, Any]:
    """The configuration with another decoder: exact and fast mode differ in nothing else."""
    method = config["method"]
    return {**config, "method": {**method, "inference": {**method["inference"], "decoder": decoder}}}


def timed_calls(
    reference: Any, modes: dict[str, Any], images: torch.Tensor, generators: Callable[[], list], sizes: Sequence[int]
) -> tuple[dict[str, Callable[[], Any]], dict[str, int]]:
    """The official loop on one image and every mode on every batch size; and the samples each call treats."""
    calls: dict[str, Callable[[], Any]] = {
        "reference": lambda: official_loop(reference.model, images[:1], generators()[:1])
    }
    samples = {"reference": 1}
    for mode, segmenter in modes.items():
        for size in sizes:
            name = f"{mode}_batch{size}"
            calls[name] = lambda segmenter=segmenter, size=size: segmenter.predict(images[:size], generators()[:size])
            samples[name] = size
    return calls, samples


def ratio_scores(result: InterleavedResult, sizes: Sequence[int]) -> list[Score]:
    """Speedup over the official loop of every mode and batch size, and of fast over exact mode at the largest."""
    pairs = [(f"speedup_{name}", name, "reference") for name in result.seconds if name != "reference"]
    if f"fast_batch{max(sizes)}" in result.seconds:
        pairs.append(("speedup_fast_over_exact", f"fast_batch{max(sizes)}", f"exact_batch{max(sizes)}"))
    scores = []
    for metric, name, over in pairs:
        ratio = result.speedup(name, over)
        note = f"over {over}, interleaved; 95 % interval {ratio.low:.2f} to {ratio.high:.2f}"
        scores.append(Score(metric=metric, value=ratio.value, better="higher", note=note))
    seconds = result.per_sample("reference")
    return [*scores, Score(metric="reference_s_per_sample", value=seconds, unit="s", better="lower")]


def test_speedup(run: Run, benchmark, publish) -> None:
    """Exact mode decides as the official loop does; ratios of the time per sample go into the record."""
    if not hasattr(run.segmenter().model, "single_step") or run.segmenter().evaluations != 1:
        pytest.skip("the official loop is SDSeg's single step")
    config, task, measure = run.cell.config, run.dataset.spec, run.cell.config["measure"]
    reference, *others = (
        load_segmenter(with_decoder(config, decoder), task, run.folder) for decoder in ("frozen", *MODES.values())
    )
    modes = dict(zip(MODES, others, strict=True))
    sizes = measure["batch_sizes"]
    images, generators = _test_images(run, max(sizes))
    calls, samples = timed_calls(reference, modes, images, generators, sizes)
    settings = {"rounds": measure["rounds"], "warmup": max(1, measure["warmup"])}
    settings |= {"synchronize": lambda: synchronize(reference.device), "samples": samples}
    result = benchmark.pedantic(measure_interleaved, args=(calls,), kwargs=settings, rounds=1)
    expected = official_loop(reference.model, images, generators()).mask
    scores = ratio_scores(result, sizes)
    for mode, segmenter in modes.items():
        flipped = float((segmenter.predict(images, generators()).mask != expected).float().mean())
        scores.append(Score(metric=f"flipped_{mode}", value=flipped, better="lower", note="share of pixels"))
        assert mode != "exact" or flipped <= FLIPPED, f"{flipped:.2e} of all pixels decided otherwise"
    publish(scores)
    benchmark.extra_info["inference"] = {mode: segmenter.describe() for mode, segmenter in modes.items()}


def _test_images(run: Run, count: int) -> tuple[torch.Tensor, Callable[[], list]]:
    # Test images, from the start again where there are too few, a slice of each volume; every one with its own noise.
    ids = run.dataset.case_ids("test")
    images = [to_method_size(run.dataset.case(ids[i % len(ids)]).image, run.dataset.spec) for i in range(count)]
    flat = torch.stack([x if x.ndim == 3 else x[:, x.shape[1] // 2] for x in images])
    return flat, lambda: [CaseGenerator(run.cell.seed, f"speed-{i}", 0) for i in range(count)]
