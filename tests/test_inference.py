"""The optimized model gives the trained model's answers, in the arithmetic that was asked for."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import nn

from sdseg.architecture import ARCHITECTURES, Architecture
from sdseg.config import SDSegConfig
from sdseg.fast.constant_folding import fold_upsampling
from sdseg.fast.inference import InferenceSettings, optimize, policy
from sdseg.mask_codec import build_autoencoder
from sdseg.model import SDSeg
from suites.reference_loop import official_loop

# The paper's shape with thin layers: five levels, attention in four of them and in the codec.
THIN_PAPER = Architecture(
    codec_widths=(8, 16, 24, 24),
    codec_blocks=2,
    codec_attention=True,
    vision_widths=(8, 16, 24, 24),
    vision_blocks=2,
    vision_attention=True,
    unet_widths=(16, 24, 24, 32, 32),
    unet_blocks=2,
    attention_levels=(True, True, True, True, False),
    heads=8,
    norm_groups=8,
)
SHAPES = {"tiny": ARCHITECTURES["tiny"], "thin paper": THIN_PAPER}


def scrambled(shape: Architecture, **options: object) -> SDSeg:
    """A model of which every layer matters: what starts at zero or one is random."""
    torch.manual_seed(0)
    model = SDSeg(SDSegConfig(architecture=shape, **options)).eval()
    generator = torch.Generator().manual_seed(5)
    for parameter in model.denoiser.parameters():
        if parameter.unique().numel() == 1:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    # Latents of a size that decodes to neither all nothing nor all mask.
    other = 40.0 if model.denoiser.amplified else 1.0
    model.codec.latent_scale.fill_(0.02 if shape == ARCHITECTURES["tiny"] else other)
    return model


def inputs(count: int = 2, size: int = 32) -> tuple[torch.Tensor, list[torch.Generator]]:
    image = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return image, [torch.Generator().manual_seed(i) for i in range(count)]


def denoised(model: SDSeg, t: int = 999) -> torch.Tensor:
    z_t, condition = torch.randn(2, 2, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return model.denoiser(z_t, condition, torch.full((2,), t))


def test_folded_upsampling_is_exact_at_the_borders_too() -> None:
    torch.manual_seed(0)
    decoder = build_autoencoder(THIN_PAPER).decoder.eval()
    latent = torch.randn(2, 4, 7, 5)
    with torch.no_grad():
        expected = decoder(latent)
        fold_upsampling(decoder)
        found = decoder(latent)
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in decoder.modules()) == len(THIN_PAPER.codec_widths) - 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ("thin paper", {}),
        ("tiny", {"prediction": "v"}),
        ("tiny", {"labels": 2}),
        ("tiny", {"vision_encoder": "frozen"}),
        ("tiny", {"conditioning": "cross_attention"}),
    ],
)
def test_exact_mode_gives_the_official_loops_masks(shape: str, options: dict) -> None:
    model, size = scrambled(SHAPES[shape], **options), 32 if shape == "tiny" else 128
    expected = official_loop(model, *inputs(size=size))
    optimize(model, InferenceSettings())
    prediction = model.predict(*inputs(size=size))
    torch.testing.assert_close(prediction.score, expected.score, rtol=0, atol=2e-3)
    assert float((prediction.mask != expected.mask).float().mean()) < 1e-3
    assert 0 < expected.mask.float().mean() < 1


def test_every_part_runs_in_its_precision_and_gives_float32() -> None:
    # In cross-attention the context too must come in the network's precision.
    model = scrambled(ARCHITECTURES["tiny"], prediction="v", conditioning="cross_attention")
    plain = copy.deepcopy(model).predict(*inputs()).score
    precision = {"encoder": "bfloat16", "denoiser": "bfloat16", "decoder": "float32"}
    facts = optimize(model, InferenceSettings(precision=precision))
    assert facts["precision"] == precision
    seen: dict[str, torch.dtype] = {}
    watched = {
        "encoder": model.vision_encoder.encoder.conv_in,
        "denoiser": model.denoiser.unet.conv_in,
        "decoder": model.codec.autoencoder.decoder.conv_in,
    }
    for name, module in watched.items():
        module.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output.dtype}))
    image, generators = inputs()
    assert model.condition(image).dtype == torch.float32
    prediction = model.predict(image, generators)
    assert {name: str(dtype) for name, dtype in seen.items()} == {k: f"torch.{v}" for k, v in precision.items()}
    assert prediction.score.dtype == torch.float32
    difference = float((prediction.score - plain).abs().mean())
    assert 0 < difference < 0.05


def test_noise_prediction_refuses_half_precision_unless_it_is_measured() -> None:
    model = scrambled(ARCHITECTURES["tiny"])
    settings = InferenceSettings(precision={"denoiser": "bfloat16"})
    with pytest.raises(ValueError, match=r"precision.denoiser=bfloat16.*allow_amplified"):
        optimize(model, settings)
    allowed = optimize(model, settings.model_copy(update={"allow_amplified": True}))
    assert allowed["precision"]["denoiser"] == "bfloat16"


def test_a_gpu_halves_everything_but_the_noise_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    eps, z0 = (scrambled(ARCHITECTURES["tiny"], prediction=p) for p in ("eps", "z0"))
    gpu, parts = torch.device("cuda"), ("encoder", "denoiser", "decoder")
    for bf16, half in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda bf16=bf16, **_: bf16)
        assert policy(z0, InferenceSettings(), gpu) == dict.fromkeys(parts, half)
        assert policy(eps, InferenceSettings(), gpu) == dict.fromkeys(parts, half) | {"denoiser": torch.float32}
    assert policy(z0, InferenceSettings(), torch.device("cpu")) == dict.fromkeys(parts, torch.float32)


def test_attention_is_fused_and_keeps_its_head_count() -> None:
    model = scrambled(THIN_PAPER)
    expected = denoised(model)
    for module in model.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())
    torch.testing.assert_close(denoised(model), expected, rtol=1e-4, atol=1e-4)
    optimize(model, InferenceSettings())
    listed = [m for m in model.denoiser.modules() if isinstance(m, Attention)]
    assert {type(m.processor).__name__ for m in listed} == {"AttnProcessor2_0"}
    assert {m.heads for m in listed} == {8}
    torch.testing.assert_close(denoised(model), expected, rtol=1e-4, atol=1e-4)
