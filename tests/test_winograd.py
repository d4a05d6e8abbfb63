"""Winograd's convolutions answer as plain ones do, with the same bits in any batch."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from bench.measure.complexity import count_gflop
from sdseg.architecture import ARCHITECTURES
from sdseg.fast.inference import PARTS, InferenceSettings, backends, optimize
from sdseg.fast.winograd import gains, use_winograd, winograd_available
from suites.reference_loop import official_loop
from tests.test_inference import inputs, scrambled

pytestmark = pytest.mark.skipif(not winograd_available(), reason="this torch or processor has no NNPACK")


class _Part(nn.Module):
    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x, None)


@torch.no_grad()
def answers(module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Before and after, of a network with random weights."""
    expected = module(x)
    use_winograd(module)
    return expected, module(x.to(memory_format=torch.channels_last))


def test_convolutions_of_any_kind_answer_as_before() -> None:
    torch.manual_seed(0)
    kinds = [{"padding": 1}, {"padding": 1, "bias": False}, {"stride": 2, "padding": 1}, {"padding": 0}]
    network = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), *(nn.Conv2d(64, 64, 3, **kind) for kind in kinds), nn.Conv2d(64, 2, 1)
    )
    names = list(network.state_dict())
    expected, found = answers(network, torch.randn(2, 3, 70, 81))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert list(network.state_dict()) == names
    assert found.is_contiguous()


@pytest.mark.parametrize("widths", [(64, 64), (64, 96)])
def test_residual_blocks_answer_as_before_and_leave_their_input(widths: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = _Part(ResnetBlock2D(in_channels=widths[0], out_channels=widths[1], temb_channels=None))
    x = torch.randn(2, widths[0], 32, 32)
    kept = x.clone()
    expected, found = answers(block, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert torch.equal(x, kept)
    assert not any(isinstance(m, ResnetBlock2D) for m in block.modules())


def test_a_row_has_the_same_bits_in_any_batch() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1))
    use_winograd(layer)
    x = torch.randn(3, 64, 40, 40)
    with torch.no_grad():
        assert torch.equal(layer(x)[1:2], layer(x[1:2]))


def test_arithmetic_is_counted_as_a_plain_convolutions() -> None:
    layer = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1))
    plain, x = copy.deepcopy(layer), torch.randn(2, 64, 32, 32)
    use_winograd(layer)
    with torch.no_grad():
        assert count_gflop(lambda: layer(x)) == count_gflop(lambda: plain(x)) > 0


def test_exact_mode_with_winograd_gives_the_official_loops_masks() -> None:
    model = scrambled(ARCHITECTURES["tiny"])
    expected = official_loop(model, *inputs(size=128))
    facts = optimize(model, InferenceSettings(backend="nnpack"))
    assert set(facts["backend"].values()) == {"nnpack"}
    prediction = model.predict(*inputs(size=128))
    torch.testing.assert_close(prediction.score, expected.score, rtol=0, atol=2e-3)
    assert float((prediction.mask != expected.mask).float().mean()) < 1e-3
    assert 0 < expected.mask.float().mean() < 1


def test_large_encoders_and_decoders_take_it_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gains(nn.Sequential(nn.Conv2d(512, 256, 3)))
    assert not gains(nn.Sequential(nn.Conv2d(512, 128, 3)))
    model, float32, cpu = scrambled(ARCHITECTURES["tiny"]), dict.fromkeys(PARTS, torch.float32), torch.device("cpu")

    def chosen(backend: str, **precision: torch.dtype) -> dict[str, str]:
        return backends(model, InferenceSettings(backend=backend), float32 | precision, cpu)

    assert set(chosen("auto").values()) == {"torch"}
    monkeypatch.setattr("sdseg.fast.inference.gains", lambda part: True)
    # A denoiser's images are an eighth as wide.
    assert chosen("auto") == {"encoder": "nnpack", "denoiser": "torch", "decoder": "nnpack"}
    assert chosen("auto", decoder=torch.bfloat16)["decoder"] == "torch"
    assert set(chosen("torch").values()) == {"torch"}


def test_half_precision_refuses_it() -> None:
    settings = InferenceSettings(backend="nnpack", precision={"decoder": "bfloat16"})
    with pytest.raises(ValueError, match="backend=nnpack needs a CPU"):
        optimize(scrambled(ARCHITECTURES["tiny"]), settings)
