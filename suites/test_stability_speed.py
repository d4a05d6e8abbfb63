"""All-pairs stability of repeated draws against a loop that calls torchmetrics and lpips pair by pair.

Ten draws of 200 maps of 256 x 256 with `--profile cpu --set draws=10`; the profile smoke tries it on few small ones.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from bench.config import compose_config
from bench.device import resolve, synchronize
from bench.measure.interleaved import measure_interleaved
from bench.measure.memory import measure_peak_memory
from bench.metrics.lpips_distance import Lpips
from bench.metrics.perceptual import undefined_reason
from bench.metrics.stability import image_stability
from bench.plugin import overrides, plain_scores
from bench.record import Score
from bench.results.environment import device_facts
from bench.scoring.cases import open_lpips
from sdseg.torchvision_ops import declare_missing_operators

# Every round treats other maps, so that all of them are treated once.
MAPS_PER_ROUND = 20
ROUNDS = {"smoke": 2}
ALL_ROUNDS = 10


def make_maps(part: int, draws: int, size: int) -> np.ndarray:
    """Scores (draws, MAPS_PER_ROUND, size, size) float32 of a lesion whose edge every draw sees elsewhere."""
    rng = np.random.default_rng(part)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    centre, radius = rng.uniform(0.3, 0.7, (2, MAPS_PER_ROUND, 1, 1)), rng.uniform(0.05, 0.25, (MAPS_PER_ROUND, 1, 1))
    phase = rng.uniform(0, 6, (draws, 2, MAPS_PER_ROUND, 1, 1))
    wobble = (0.02 * np.sin(30 * x + phase[:, 0]) * np.sin(23 * y + phase[:, 1])).astype(np.float32)
    away = np.hypot(y - centre[0], x - centre[1]) - radius
    return (1 / (1 + np.exp(60 * (away + wobble)))).astype(np.float32)


def loop_over_pairs(maps: np.ndarray, lpips: Lpips) -> dict[str, float]:
    """The definition with the libraries' own functions, one pair at a time; PSNR of the mean error, as ours."""
    declare_missing_operators()
    library = importlib.import_module("torchmetrics.functional.image")
    functions: dict[str, Callable[..., Any]] = {"SSIM": library.structural_similarity_index_measure}
    if not undefined_reason("MS-SSIM", *maps.shape[-2:]):
        functions["MS-SSIM"] = library.multiscale_structural_similarity_index_measure
    of_pairs: dict[str, list[float]] = {name: [] for name in ("LPIPS", "error", *functions)}
    for draws in torch.from_numpy(maps).transpose(0, 1):
        for a, b in combinations(draws.to(lpips.device)[:, None, None], 2):
            for name, function in functions.items():
                of_pairs[name].append(float(function(a, b, data_range=1.0)))
            psnr = float(library.peak_signal_noise_ratio(a, b, data_range=1.0))
            of_pairs["error"].append(10 ** (-psnr / 10))
            with torch.no_grad():
                of_pairs["LPIPS"].append(float(lpips.network(a, b, normalize=True)))
    error = float(np.mean(of_pairs.pop("error")))
    return {**{name: float(np.mean(values)) for name, values in of_pairs.items()}, "PSNR": -10 * float(np.log10(error))}


def callables(lpips: Lpips) -> dict[str, Callable[[np.ndarray], dict[str, float]]]:
    """Both ways to the same numbers."""
    return {
        "batched": lambda maps: image_stability(maps, lpips, lpips.device),
        "loop": lambda maps: loop_over_pairs(maps, lpips),
    }


def test_stability_speed(request: pytest.FixtureRequest, benchmark: Any) -> None:
    """Both give the same numbers; how many times faster ours is, and the peak memory of two maps each."""
    benchmark.group = "test_stability_speed"
    config = compose_config(overrides(request.config))
    device = resolve(config["device"])
    lpips, reason = open_lpips(device)
    if lpips is None:
        pytest.skip(reason)
    rounds, draws, size = ROUNDS.get(config["profile_name"], ALL_ROUNDS), config["draws"], config["image_size"]
    parts = [make_maps(part, draws, size) for part in range(rounds)]
    both = callables(lpips)
    ours, theirs = (function(parts[0][:, :1]) for function in both.values())  # warms up, too
    for name, value in theirs.items():  # torchmetrics works in float32
        assert ours[name] == pytest.approx(value, abs=2e-4 if name == "PSNR" else 2e-5), name
    calls = {name: _in_turn(function, iter(parts)) for name, function in both.items()}
    settings: dict[str, Any] = {"rounds": rounds, "warmup": 0, "samples": dict.fromkeys(calls, MAPS_PER_ROUND)}
    settings["synchronize"] = lambda: synchronize(lpips.device)
    result = benchmark.pedantic(measure_interleaved, args=(calls,), kwargs=settings, rounds=1)
    ratio = result.speedup("batched", "loop")
    note = f"over the loop, interleaved; 95 % interval {ratio.low:.2f} to {ratio.high:.2f}"
    scores = [Score(metric="speedup_batched", value=ratio.value, better="higher", note=note)]
    for name in calls:
        scores.append(Score(metric=f"{name}_s_per_map", value=result.per_sample(name), unit="s", better="lower"))
        argument = {"name": name, "draws": draws, "size": size, "device": device}
        memory = measure_peak_memory("suites.test_stability_speed:memory_target", argument, warmup=False)
        scores.append(Score(metric=f"{name}_peak_mib", value=memory.peak_mib, unit="MiB", better="lower"))
        added = memory.peak_rss_mib - memory.baseline_rss_mib
        scores.append(Score(metric=f"{name}_added_mib", value=added, unit="MiB", better="lower"))
    benchmark.extra_info.update(plain_scores(scores) | {"device": device_facts(device)["name"], "intervals": note})
    benchmark.extra_info["maps"] = f"{draws} draws of {rounds * MAPS_PER_ROUND} maps of {size} x {size}"


def _in_turn(function: Callable[[np.ndarray], Any], parts: Iterator[np.ndarray]) -> Callable[[], Any]:
    return lambda: function(next(parts))


def memory_target(argument: dict[str, Any]) -> Callable[[], object]:
    """For the memory process: two maps, with the libraries imported before."""
    lpips, reason = open_lpips(argument["device"])
    if lpips is None:
        raise RuntimeError(reason)
    function = callables(lpips)[argument["name"]]
    maps = make_maps(0, argument["draws"], argument["size"])
    function(maps[:2, :1, :48, :48])
    return lambda: function(maps[:, :2])
