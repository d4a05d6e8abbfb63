"""Latency, memory and arithmetic."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn

from bench.errors import InputError, RunError
from bench.measure import latency
from bench.measure.complexity import count_gflop, count_parameters
from bench.measure.latency import LatencyResult, measure_latency, synchronize
from bench.measure.memory import measure_peak_memory


def test_warmup_is_not_timed_and_every_timed_call_is_drained(monkeypatch):
    events: list[str] = []
    clock = iter(np.cumsum([10, 1, 10, 3]).tolist())

    def tick() -> float:
        events.append("clock")
        return next(clock)

    monkeypatch.setattr(latency.time, "perf_counter", tick)
    result = measure_latency(
        lambda: events.append("call"),
        rounds=2,
        warmup=3,
        synchronize=lambda: events.append("drain"),
        batch=4,
    )
    assert events == ["call"] * 3 + ["drain", "clock", "call", "drain", "clock"] * 2
    assert result.seconds == [1, 3]
    assert result.p50 == 2
    assert result.samples_per_s == 2


def test_percentiles_on_paper():
    result = LatencyResult([float(i) for i in range(101)], batch=10)
    assert (result.p50, result.p95, result.samples_per_s) == (50, 95, 0.2)


def test_latency_measures_real_time():
    result = measure_latency(lambda: time.sleep(0.01), rounds=3, warmup=0, synchronize=lambda: synchronize("cpu"))
    assert min(result.seconds) >= 0.01
    assert len(result.seconds) == 3


@pytest.mark.parametrize("bad", [{"rounds": 0}, {"warmup": -1}, {"batch": 0}])
def test_latency_refuses_nonsense(bad):
    with pytest.raises(InputError, match="latency"):
        measure_latency(lambda: None, **({"rounds": 1, "warmup": 0, "synchronize": lambda: None} | bad))


def test_parameters_count_shared_ones_once():
    linear = nn.Linear(3, 4)  # 16
    model = nn.Sequential(linear, linear, nn.Linear(4, 1))  # 5
    linear.weight.requires_grad_(False)
    assert count_parameters(model) == (21, 9)


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


TARGET = """
import torch

def allocate(argument):
    kept = torch.ones(argument["kept_mib"] * 2**18)
    return lambda: torch.ones(argument["mib"] * 2**18).sum() + kept[0]
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


def test_peak_memory_is_the_calls_and_not_the_parents(target):
    ballast = torch.ones(400 * 2**18)  # 400 MiB that must not show in the other process
    result = measure_peak_memory(f"{target}:allocate", {"mib": 96, "kept_mib": 32}, timeout=120)
    assert result.kind in ("rss", "rss_process", "cuda")
    grown = result.peak_rss_mib - result.baseline_rss_mib
    assert grown > 90
    if result.kind == "rss":
        assert grown < 200
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
