"""Schedule, U-Net, mask codec, vision encoder and forward process beside the released code's values."""

from __future__ import annotations

import pytest
import torch

from sdseg.model import SDSeg
from sdseg.weights.official import sdseg_from_official, to_official
from tests.parity.golden import Golden

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield


def times(t: int | list[int], count: int) -> torch.Tensor:
    return torch.tensor(t if isinstance(t, list) else [t] * count)


def latents(golden: Golden) -> tuple[torch.Tensor, torch.Tensor]:
    shape = golden.batch, 4, golden.latent, golden.latent
    return golden.input("unet/z_t", *shape), golden.input("unet/z_c", *shape)


def test_every_tensor_of_the_checkpoint_is_used_and_comes_back(golden: Golden, model: SDSeg) -> None:
    manifest = golden.json(f"manifest_{golden.size}")
    named = {k: v for group in manifest["groups"].values() for k, v in group.items()}
    written = to_official(model)
    assert set(written) == set(named)
    assert len(written) == manifest["total"]
    for name, tensor in golden.official_state().items():
        assert list(tensor.shape) == named[name]["shape"]
        if name in ("betas", "scale_factor") or "." in name:
            assert torch.equal(written[name], tensor), name


def test_schedule(tiny: Golden, tiny_model: SDSeg) -> None:
    expected = tiny.tensors("schedule")
    torch.testing.assert_close(tiny_model.schedule.alphas_cumprod, expected["alphas_cumprod"], rtol=0, atol=0)
    written = to_official(tiny_model)
    for name in set(expected) - {"lvlb_weights"}:
        torch.testing.assert_close(written[name], expected[name], rtol=3e-7, atol=0, msg=name)


def test_unet_with_a_time_per_sample(tiny: Golden, tiny_model: SDSeg) -> None:
    tiny.check("unet.eps.t37_731", tiny_model.denoiser(*latents(tiny), times([37, 731], 2)))


def test_unet_with_attention_on_every_level(tiny: Golden) -> None:
    model = sdseg_from_official(tiny.official_state("attn_all"))
    assert model.config.architecture.attention_levels == (True, True, True)
    tiny.check("unet_attn_all.eps.t500", model.denoiser(*latents(tiny), times(500, 2)))


@pytest.mark.parametrize(("t", "classes"), [(0, (0, 3)), (999, (2, 1))])
def test_unet_with_class_embedding(tiny: Golden, multiclass_model: SDSeg, t: int, classes: tuple[int, int]) -> None:
    output = multiclass_model.denoiser(*latents(tiny), times(t, 2), torch.tensor(classes))
    tiny.check(f"unet_mc.cls{classes[0]}_{classes[1]}.eps.t{t}", output)


def test_mask_codec(golden: Golden, model: SDSeg) -> None:
    mask = golden.masks("ae", 1)
    assert torch.equal(mask[0], golden.values["ae.mask"].bool())
    moments, size = model.codec.moments(mask), golden.latent
    golden.check("ae.moments", moments)
    golden.check("ae.mode", model.codec.sample(moments) / model.codec.latent_scale)
    noise = golden.input("ae/posterior_noise", 1, 4, size, size)
    golden.check("ae.sample_scaled", model.codec.encode(mask, noise))


def check_pixels(golden: Golden, item: str, pixels: torch.Tensor) -> None:
    if item in golden.values:
        golden.check(item, pixels)
    else:  # large maps: all of it in float16, the middle in float32
        golden.check(f"{item}.f16", pixels)
        golden.check(f"{item}.crop", pixels[..., 96:160, 96:160])
