"""Speed as ratios per SDSeg cell, all in one interleaved run: the official loop, exact mode and fast mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.build import build_segmenter
from bench.config import compose_config
from bench.datasets.geometry import to_method_size
from bench.device import synchronize
from bench.importing import import_by_name
from bench.measure.complexity import count_gflop
from bench.measure.interleaved import InterleavedResult, measure_interleaved
from bench.measure.limit import flags, has_bfloat16, limit_scores
from bench.measure.memory import measure_peak_memory
from bench.plugin import overrides, plain_scores
from bench.record import Score
from bench.results.environment import device_facts
from bench.runner import Run, load_segmenter
from bench.seeding import CaseGenerator
from bench.types import TaskSpec
from suites.reference_loop import official_loop

# Share of pixels that exact mode may decide otherwise than the official loop.
FLIPPED = 1e-4
MODES = {"exact": "frozen", "fast": "light"}
PAPER_TASK = TaskSpec(channels=3, labels=("mask",), image_size=(256, 256), dims=2)
PAPER_ROUNDS = 3  # on a CPU, where a call takes half a minute


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


def test_paper_architecture_cost(request: pytest.FixtureRequest, benchmark, tmp_path: Path) -> None:
    """One 256 x 256 image through the paper's networks with random weights: seconds, share of the limit, memory."""
    benchmark.group = "test_paper_architecture_cost"
    light = tmp_path / "light.safetensors"
    configs = {mode: _paper_config(request, options) for mode, options in paper_modes(light).items()}
    reference = build_segmenter(configs["exact"], PAPER_TASK)
    reference.model.to(reference.device)
    _write_random_light_decoder(reference.model, light)
    modes = {mode: build_segmenter(config, PAPER_TASK) for mode, config in configs.items()}
    device, measure = reference.device, configs["exact"]["measure"]
    cuda = device.type == "cuda"
    sizes = measure["batch_sizes"] if cuda else [1]
    images = torch.rand(max(sizes), 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    calls, samples = timed_calls(reference, modes, images, lambda: _generators(len(images)), sizes)
    settings = {"rounds": measure["rounds"] if cuda else PAPER_ROUNDS, "warmup": 1, "samples": samples}
    settings["synchronize"] = lambda: synchronize(device)
    limits = limit_scores(device)
    result = benchmark.pedantic(measure_interleaved, args=(calls,), kwargs=settings, rounds=1)
    scores = [*limits, *ratio_scores(result, sizes)]
    scores += [Score(metric=f"{name}_s_per_sample", value=result.per_sample(name), unit="s") for name in calls]
    gflop = {name: count_gflop(call) / samples[name] for name, call in calls.items()}
    scores += [
        Score(metric=f"{name}_share_of_limit", value=gflop[name] / result.per_sample(name) / limits[0].value)
        for name in calls
    ]
    expected = official_loop(reference.model, images[:1], _generators(1)).mask
    for mode in [mode for mode in modes if mode.startswith("exact")]:
        flipped = (modes[mode].predict(images[:1], _generators(1)).mask != expected).float().mean()
        scores.append(Score(metric=f"flipped_{mode}", value=float(flipped), better="lower", note="share of pixels"))
    del reference, modes, calls
    for mode, config in {"reference": configs["exact"], **configs}.items():
        argument = {"config": config, "task": PAPER_TASK.facts(), "official": mode == "reference"}
        peak = measure_peak_memory("suites.test_speedup:paper_target", argument).peak_mib
        scores.append(Score(metric=f"{mode}_peak_mib", value=peak, unit="MiB", better="lower"))
    assert all(score.value > 0 for score in scores if not score.metric.startswith("flipped"))
    benchmark.extra_info.update(
        {**plain_scores(scores), "device": device_facts(device.type)["name"], "weights": "random", "gflop": gflop}
    )
    benchmark.extra_info["notes"] = {s.metric: s.note for s in scores if s.note}
    benchmark.extra_info["flags"] = flags(device)


def paper_modes(light: Path) -> dict[str, list[str]]:
    """What each mode changes: exact mode nothing, half precision where the processor has it, light parts."""
    decoder = ["method.inference.decoder=light", f"method.inference.light_decoder={light}"]
    modes = {"exact": [], "light_decoder": decoder, "fast": [*decoder, "method.options.vision_encoder=light"]}
    if has_bfloat16(torch.device("cpu")):
        modes["exact_bf16"] = [f"method.inference.precision.{part}=bfloat16" for part in ("encoder", "decoder")]
    return modes


def _paper_config(request: pytest.FixtureRequest, options: list[str]) -> dict[str, Any]:
    return compose_config([*overrides(request.config), "method=sdseg", "size=paper", "image_size=256", *options])


def paper_target(argument: dict[str, Any]) -> Callable[[], object]:
    """For the memory process: one image in one mode, or in the official loop."""
    segmenter, image = build_segmenter(argument["config"], TaskSpec.of(argument["task"])), torch.zeros(1, 3, 256, 256)
    if not argument["official"]:
        return lambda: segmenter.predict(image, _generators(1))
    segmenter.model.to(segmenter.device)
    return lambda: official_loop(segmenter.model, image, _generators(1))


def _generators(count: int) -> list[CaseGenerator]:
    return [CaseGenerator(0, f"speed-{i}", 0) for i in range(count)]


def _write_random_light_decoder(model: Any, path: Path) -> None:
    named = {name: import_by_name(f"sdseg.fast.light_decoder.{name}") for name in ("LightDecoder", "LightShape")}
    teacher = import_by_name("sdseg.fast.light_decoder.decoder_hash")(model.codec.autoencoder)
    named["LightDecoder"](named["LightShape"].of(model.config.architecture), teacher).save(path)
