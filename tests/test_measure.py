"""Latency, memory and arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from bench.errors import InputError, RunError
from bench.measure import latency, limit
from bench.measure.complexity import count_gflop, count_parameters, evaluations_counted
from bench.measure.cost import complexity_scores, latency_scores
from bench.measure.latency import warm_up
from bench.measure.memory import measure_peak_memory
from bench.measure.targets import slices_per_call
from bench.types import Prediction, TaskSpec


@pytest.fixture
def clock(monkeypatch):
    """A clock that only calls move: `clock(seconds, ...)` gives a call that takes that long, the last ever after."""
    now = [0.0]
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])

    def make(*seconds: float) -> Callable[[], None]:
        made: list[float] = []

        def call() -> None:
            made.append(seconds[min(len(made), len(seconds) - 1)])
            now[0] += made[-1]

        call.made = made
        return call

    return make


@pytest.mark.parametrize(
    ("calls", "warmups", "rounds"),
    [
        ([0.1], 2, 8),  # fast: all that was asked for
        ([2.0, 1.0], 2, 5),  # the last warm-up tells
        ([4.0], 2, 3),  # slow: three
        ([60.0], 1, 3),  # so slow that one warm-up is enough
    ],
)
def test_as_many_calls_as_the_budget_allows(clock, calls, warmups, rounds):
    call = clock(*calls)
    assert warm_up(call, rounds=8, warmup=2, seconds=5) == rounds
    assert len(call.made) == warmups


def test_never_more_calls_than_asked_for_and_always_a_warm_up(clock):
    call = clock(60.0)
    assert warm_up(call, rounds=2, warmup=0, seconds=5) == 2
    assert len(call.made) == 1
    assert warm_up(clock(0.0), rounds=8, warmup=1, seconds=5) == 8


def test_the_limit_is_the_better_of_two_and_names_the_instructions(monkeypatch):
    seconds = iter([2.0, 4.0])
    monkeypatch.setattr(limit, "_seconds", lambda call, device: next(seconds))
    monkeypatch.setattr(limit, "has_bfloat16", lambda device: False)
    (score,) = limit.limit_scores("cpu")
    product, convolution = 2 * 2048**3 / 2 / 1e9, 2 * 9 * 128**2 * 256**2 / 4 / 1e9
    assert (score.metric, score.value) == ("limit_gflop_per_s", max(product, convolution))
    assert (
        score.note == f"matrix product {product:.0f}, convolution {convolution:.0f}; {limit.flags(torch.device('cpu'))}"
    )


def test_the_limit_is_measured():
    assert all(score.value > 0 for score in limit.limit_scores("cpu"))
    assert limit.flags(torch.device("cpu"))


def test_percentiles_on_paper():
    scores = {score.metric: score.value for score in latency_scores([float(i) for i in range(101)], 1)}
    assert (scores["latency_ms_p50"], scores["latency_ms_p95"]) == (50_000, 95_000)
    assert latency_scores([50.0], 10)[0].value == 0.2


def test_answers_per_second_are_of_images_or_slices():
    scores = {score.metric: score for score in latency_scores([0.5, 0.5, 0.5], 1, slices=32)}
    assert (scores["samples_per_s"].value, scores["samples_per_s_batch1"].value) == (64, 64)
    assert scores["latency_ms_p50"].value == 500  # of the whole block
    assert "3 calls" in scores["latency_ms_p50"].note


def test_parameters_count_shared_ones_once():
    linear = nn.Linear(3, 4)  # 16
    model = nn.Sequential(linear, linear, nn.Linear(4, 1))  # 5
    assert count_parameters(model) == 21


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gflop_on_paper(mode):
    convolution, linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(8, 5)
    with mode():
        assert count_gflop(lambda: convolution(torch.zeros(1, 3, 8, 8))) == 2 * 64 * 4 * 27 / 1e9
        assert count_gflop(lambda: linear(torch.zeros(2, 8))) == 2 * 2 * 8 * 5 / 1e9


def test_attention_counts_on_the_cpu_too():
    q = torch.zeros(1, 2, 64, 16)
    attention = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    x = torch.zeros(1, 64, 16)
    with torch.inference_mode():
        fused = count_gflop(lambda: nn.functional.scaled_dot_product_attention(q, q, q))
        module = count_gflop(lambda: attention(x, x, x, need_weights=False))
    assert fused == 2 * 2 * 2 * 64 * 64 * 16 / 1e9  # q k^T and its product with v, two heads
    assert module == (2 * 64 * 16 * 64 + 2 * 2 * 64 * 64 * 16) / 1e9  # four projections, then the same
    assert torch.backends.mha.get_fastpath_enabled()


class Ensemble(nn.Module):
    """An encoder once, a denoiser `steps` times on `samples` samples, a decoder once: as diffusion models are."""

    def __init__(self, steps: int, samples: int) -> None:
        super().__init__()
        self.steps, self.samples = steps, samples
        self.encoder, self.decoder = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
        self.denoiser = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.encoder(x).repeat(self.samples, 1, 1, 1)
        for _ in range(self.steps):
            z = self.denoiser(z)
        return self.decoder(z).unflatten(0, (self.samples, -1)).mean(0)


def test_network_evaluations_are_those_of_the_iterated_part():
    model = Ensemble(steps=5, samples=3)
    with evaluations_counted(model) as counted:
        model(torch.zeros(1, 1, 4, 4))
        assert counted() == 15
        model(torch.zeros(2, 1, 4, 4))
        assert counted() == 45
    model(torch.zeros(1, 1, 4, 4))
    assert counted() == 45  # no hook stays behind
    with evaluations_counted(nn.Linear(2, 2)) as counted:
        assert counted() == 0


class Blocks:
    """A segmenter that states one step and one sample, and sees a block of slices in four windows."""

    dims, evaluations, samples = 3, 1, 1

    def __init__(self) -> None:
        self.model = nn.Conv3d(1, 1, 1)

    def predict(self, image: torch.Tensor, generators: Any) -> Prediction:
        score = torch.cat([self.model(part) for part in image.chunk(4, dim=2)], dim=2)
        return Prediction(score, score > 0)


def test_windows_of_a_volume_are_counted_and_arithmetic_is_by_slice():
    task = TaskSpec(channels=1, labels=("a",), image_size=(4, 4), dims=3)
    values = {score.metric: score.value for score in complexity_scores(Blocks(), task, slices=32)}
    assert (values["nfe"], values["steps"], values["samples"], values["slices_per_call"]) == (4, 1, 1, 32)
    assert values["gflop_per_sample"] == 2 * 16 / 1e9


@pytest.mark.parametrize(("dims", "window", "slices"), [(2, 96, 1), (3, 24, 32), (3, 96, 96), (3, None, 32)])
def test_a_block_is_as_deep_as_the_window(dims, window, slices):
    segmenter = Blocks()
    segmenter.dims = dims
    assert slices_per_call(segmenter, {"window": window and [window, 8, 8]}) == slices


TARGET = """
import torch

def read_mapped(argument):
    # 160 MiB in the first call, then 32, and 128 MiB of a file in each
    import numpy
    mapped = numpy.memmap(argument["file"], numpy.uint8, "r")
    sizes = [160, 32]
    return lambda: mapped[::4096].max() + torch.ones(sizes.pop(0) * 2**18).sum()
"""

BAD_TARGET = """
def noisy(argument):
    print("chatter on stdout")
    raise ValueError("no such size")

def slow(argument):
    import time
    time.sleep(60)
"""


@pytest.fixture
def target(tmp_path, monkeypatch):
    (tmp_path / "memory_target.py").write_text(TARGET)
    (tmp_path / "bad_memory_target.py").write_text(BAD_TARGET)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "memory_target"


@pytest.mark.parametrize(("warmup", "least", "most"), [(True, 28, 100), (False, 150, 220)])
def test_peak_memory_is_the_calls_alone(target, tmp_path, warmup, least, most):
    """Neither the parent's, nor pages of files, nor a warm-up's."""
    ballast = torch.ones(400 * 2**18)
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(128 * 2**20)
    result = measure_peak_memory(f"{target}:read_mapped", {"file": str(large)}, timeout=120, warmup=warmup)
    grown = result.peak_rss_mib - result.baseline_rss_mib
    assert result.kind in ("rss", "rss_process", "cuda")
    if result.kind == "rss":
        assert least < grown < most
    assert result.peak_mib == (result.peak_rss_mib if result.kind != "cuda" else result.peak_allocated_mib)
    assert ballast.numel() == 400 * 2**18


def test_a_failing_target_is_one_line(target):
    with pytest.raises(RunError, match="ValueError: no such size") as caught:
        measure_peak_memory(f"bad_{target}:noisy", {}, timeout=120)
    assert "\n" not in str(caught.value)


def test_a_target_that_hangs_is_ended(target):
    with pytest.raises(RunError, match="no answer within 1 s"):
        measure_peak_memory(f"bad_{target}:slow", {}, timeout=1)


def test_a_malformed_target_is_refused():
    with pytest.raises(InputError, match="module:function"):
        measure_peak_memory("module", {})
