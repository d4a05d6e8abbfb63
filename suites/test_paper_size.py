"""SDSeg at the paper's size, 256 x 256, with random weights: what a prediction and a training step cost, in every mode.

On two CPU cores the three tests take more than 25 minutes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.build import build_segmenter
from bench.config import compose_config
from bench.device import give_back_freed_memory, keep_freed_memory, resolve, synchronize
from bench.importing import import_by_name
from bench.measure.complexity import count_gflop
from bench.measure.interleaved import InterleavedResult, measure_interleaved
from bench.measure.limit import flags, has_bfloat16, limit_scores
from bench.measure.memory import measure_peak_memory
from bench.plugin import overrides, plain_scores
from bench.record import Score
from bench.results.environment import device_facts
from bench.seeding import CaseGenerator
from bench.types import TaskSpec
from suites.reference_loop import official_loop
from suites.reference_training import OfficialTraining
from suites.test_speedup import ratio_scores, timed_calls

TASK = TaskSpec(channels=3, labels=("mask",), image_size=(256, 256), dims=2)
CPU_ROUNDS = 3  # where a call takes seconds and a training step a minute
BATCH = 4  # of the paper's training


def paper_modes(device: torch.device, light: Path) -> dict[str, list[str]]:
    """What each mode of prediction changes; `exact` changes nothing."""
    decoder = ["method.inference.decoder=light", f"method.inference.light_decoder={light}"]
    modes = {"exact": [], "light_decoder": decoder, "fast": [*decoder, "method.options.vision_encoder=light"]}
    if device.type == "cuda":
        graphs = "method.inference.compile=reduce-overhead"
        return modes | {
            "exact_graphs": [graphs],
            "fast_graphs": [*modes["fast"], graphs],
            "exact_contiguous": ["method.inference.channels_last=false"],
        }
    if has_bfloat16(device):
        modes["exact_bf16"] = [f"method.inference.precision.{part}=bfloat16" for part in ("encoder", "decoder")]
    return modes


def memory_of_its_own(calls: Mapping[str, Callable[[], object]], official: str) -> dict[str, Callable[[], object]]:
    """Before each call its own way with freed memory; a call that keeps it is done once untimed, to have it again."""

    def kept(call: Callable[[], object]) -> None:
        keep_freed_memory()
        call()

    ours = {name: partial(kept, call) for name, call in calls.items() if name != official}
    return {official: give_back_freed_memory, **ours}


def test_prediction(request: pytest.FixtureRequest, benchmark, tmp_path: Path) -> None:
    """Seconds of an image beside the official loop, share of the machine's limit, flipped pixels, peak memory."""
    light, plain = tmp_path / "light.safetensors", _config(request, [])
    reference = build_segmenter(plain, TASK)
    device, measure = reference.device, plain["measure"]
    reference.model.to(device)
    _write_random_light_decoder(reference.model, light)
    configs = {mode: _config(request, options) for mode, options in paper_modes(device, light).items()}
    modes = {mode: build_segmenter(config, TASK) for mode, config in configs.items()}
    cuda = device.type == "cuda"
    sizes = measure["batch_sizes"] if cuda else [1]
    images = torch.rand(max(sizes), 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    calls, samples = timed_calls(reference, modes, images, lambda: _generators(len(images)), sizes)
    settings = {"rounds": measure["rounds"] if cuda else CPU_ROUNDS, "warmup": 1, "samples": samples}
    settings |= {"synchronize": lambda: synchronize(device), "prepare": memory_of_its_own(calls, "reference")}
    limits = limit_scores(device)
    result = benchmark.pedantic(measure_interleaved, args=(calls,), kwargs=settings, rounds=1)
    scores = [*limits, *ratio_scores(result, sizes)]
    gflop = {name: count_gflop(call) / samples[name] for name, call in calls.items() if "graphs" not in name}
    for name in calls:
        seconds = result.per_sample(name)
        scores.append(Score(metric=f"{name}_s_per_sample", value=seconds, unit="s", better="lower"))
        if name in gflop:
            scores.append(Score(metric=f"{name}_share_of_limit", value=gflop[name] / seconds / limits[0].value))
    expected = official_loop(reference.model, images[:1], _generators(1)).mask
    for mode in [mode for mode in modes if mode.startswith("exact")]:
        flipped = (modes[mode].predict(images[:1], _generators(1)).mask != expected).float().mean()
        scores.append(Score(metric=f"{mode}_flipped", value=float(flipped), better="lower", note="share of pixels"))
    del reference, modes, calls
    for mode, config in {"reference": plain, **configs}.items():
        argument = {"config": config, "official": mode == "reference"}
        scores += _peak(mode, "prediction_target", argument)
    _tell(benchmark, device, scores, gflop=gflop)


def training_configs(request: pytest.FixtureRequest) -> tuple[dict[str, dict[str, Any]], torch.device]:
    """The paper's recipe, the same with less memory, what is faster where the device has bfloat16; and the device."""
    recipes = {"ours": [], "checkpointed": ["train.checkpoint_activations=true"]}
    configs = {name: _config(request, ["profile=paper", *options]) for name, options in recipes.items()}
    device = torch.device(resolve(configs["ours"]["device"]))
    if device.type == "cuda":
        configs["fast"] = _config(request, ["profile=paper", "recipe=fast", f"train.batch_size={BATCH}"])
    elif has_bfloat16(device):
        configs["bf16"] = _config(request, ["profile=paper", "train.precision=bf16"])
    return configs, device


def test_training_memory(request: pytest.FixtureRequest, benchmark) -> None:
    """Peak memory of two steps of four images, ours and the official ones, each in a process of its own."""
    configs, device = training_configs(request)
    parts = ["profile=paper", f"train.accumulate={BATCH}"]
    configs["in_parts"] = _config(request, parts)
    configs["least"] = _config(request, [*parts, "train.checkpoint_activations=true"])
    cases = {"official": (configs["ours"], True), **{name: (config, False) for name, config in configs.items()}}

    def measure() -> list[Score]:
        rows = [_peak(n, "training_target", {"config": c, "official": official}) for n, (c, official) in cases.items()]
        return [score for row in rows for score in row]

    _tell(benchmark, device, benchmark.pedantic(measure, rounds=1), batch=BATCH)


def test_training_speed(request: pytest.FixtureRequest, benchmark) -> None:
    """Seconds of a step beside the official one, latents known after the first.

    On a CPU a timed step has one image: two trainings of four do not fit into 24 GB.
    """
    configs, device = training_configs(request)
    cuda = device.type == "cuda"
    batch, rounds = (BATCH, configs["ours"]["measure"]["rounds"]) if cuda else (1, CPU_ROUNDS)
    timed = benchmark.pedantic(
        lambda: {name: _steps_in_turn(config, batch, rounds, device) for name, config in configs.items()}, rounds=1
    )
    scores = [Score(metric="official_s_per_step", value=timed["ours"].per_sample("official"), unit="s", better="lower")]
    for name, found in timed.items():
        ratio = found.speedup("ours", over="official")
        note = f"over the official step, interleaved; 95 % interval {ratio.low:.2f} to {ratio.high:.2f}"
        scores.append(Score(metric=f"speedup_{name}", value=ratio.value, better="higher", note=note))
        scores.append(Score(metric=f"{name}_s_per_step", value=found.per_sample("ours"), unit="s", better="lower"))
    _tell(benchmark, device, scores, batch=batch)


def _steps_in_turn(config: dict[str, Any], batch: int, rounds: int, device: torch.device) -> InterleavedResult:
    # Two trainings at a time: they must be gone before the next two come.
    with stepping(config, False, batch) as ours, stepping(config, True, batch) as official:
        calls = {"ours": ours, "official": official}
        settings = {"synchronize": lambda: synchronize(device), "prepare": memory_of_its_own(calls, "official")}
        found = measure_interleaved(calls, rounds=rounds, warmup=1, **settings)
    del ours, official, calls, settings
    gc.collect()
    return found


@contextmanager
def stepping(config: dict[str, Any], official: bool, batch: int) -> Iterator[Callable[[], object]]:
    """A call that trains one step on `batch` random images, always the same."""
    segmenter = build_segmenter(config, TASK)
    model, recipe = segmenter.model, segmenter.recipe
    model.prepare = lambda masks, generator: None  # a random codec costs as much as a pretrained one
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, 3, 256, 256, generator=generator) * 2 - 1
    mask = torch.rand(batch, 1, 256, 256, generator=generator) > 0.5
    if official:
        training = OfficialTraining(model.to(segmenter.device), recipe.lr, recipe.weight_decay, recipe.ema_decay)
        draws = model.draw(batch, (256, 256), generator)
        yield lambda: training.step(image, mask, draws, 1.0)
        return
    items = [{"image": i, "mask": m} for i, m in zip(image, mask, strict=True)]
    rows = import_by_name("sdseg.training.batches.TrainingBatch")(image, mask, torch.arange(batch))
    recipe = recipe.model_copy(update={"cache_latents": True, "batch_size": batch})
    with import_by_name("sdseg.training.acceleration.accelerated")(model, recipe, batch):
        make = import_by_name("sdseg.training.trainer.TrainingLoop")
        loop = make(model, items, recipe, Path(), 0, segmenter.device.type)
        yield lambda: loop.step(rows)


def prediction_target(argument: dict[str, Any]) -> Callable[[], object]:
    """For the memory process: one image in one mode, or in the official loop."""
    segmenter, image = build_segmenter(argument["config"], TASK), torch.zeros(1, 3, 256, 256)
    if not argument["official"]:
        keep_freed_memory()
        return lambda: segmenter.predict(image, _generators(1))
    segmenter.model.to(segmenter.device)
    return lambda: official_loop(segmenter.model, image, _generators(1))


def training_target(argument: dict[str, Any]) -> Callable[[], object]:
    """For the memory process: two training steps, ours or official."""

    def train() -> None:
        if not argument["official"]:
            keep_freed_memory()
        with stepping(argument["config"], argument["official"], BATCH) as step:
            step()
            step()

    return train


def _config(request: pytest.FixtureRequest, options: list[str]) -> dict[str, Any]:
    return compose_config([*overrides(request.config), "method=sdseg", "size=paper", "image_size=256", *options])


def _peak(name: str, target: str, argument: dict[str, Any]) -> list[Score]:
    peak = measure_peak_memory(f"suites.test_paper_size:{target}", argument, warmup="prediction" in target).peak_mib
    return [Score(metric=f"{name}_peak_mib", value=peak, unit="MiB", better="lower")]


def _tell(benchmark: Any, device: torch.device, scores: list[Score], **facts: Any) -> None:
    assert all(score.value > 0 for score in scores if not score.metric.endswith("flipped"))
    machine = {"device": device_facts(device.type)["name"], "flags": flags(device), "threads": torch.get_num_threads()}
    notes = {score.metric: score.note for score in scores if score.note}
    benchmark.extra_info.update({**plain_scores(scores), **machine, "weights": "random", "notes": notes, **facts})


def _generators(count: int) -> list[CaseGenerator]:
    return [CaseGenerator(0, f"speed-{i}", 0) for i in range(count)]


def _write_random_light_decoder(model: Any, path: Path) -> None:
    named = {name: import_by_name(f"sdseg.fast.light_decoder.{name}") for name in ("LightDecoder", "LightShape")}
    teacher = import_by_name("sdseg.fast.light_decoder.decoder_hash")(model.codec.autoencoder)
    named["LightDecoder"](named["LightShape"].of(model.config.architecture), teacher).save(path)
