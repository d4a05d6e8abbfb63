"""SDSeg's networks and its two verbs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sdseg.architecture import ARCHITECTURES
from sdseg.codec_training import reconstruction_dice
from sdseg.denoiser import Denoiser
from sdseg.loss import sdseg_loss
from sdseg.mask_codec import TINY_CODEC, build_autoencoder, load_tiny_codec
from sdseg.model import SDSeg, SDSegConfig
from sdseg.procedural_masks import draw_masks
from sdseg.schedule import NoiseSchedule
from sdseg.vision_encoder import VisionEncoder


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def tiny(**options) -> SDSeg:
    torch.manual_seed(0)
    return SDSeg(SDSegConfig(architecture=ARCHITECTURES["tiny"], **options)).eval()


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def test_paper_architecture_has_the_published_sizes() -> None:
    shape = ARCHITECTURES["paper"]
    with torch.device("meta"):
        denoiser = Denoiser(shape)
        assert count(denoiser) == 294_973_828
        assert len(denoiser.state_dict()) == 604
        assert count(build_autoencoder(shape)) == 83_653_863
        assert count(VisionEncoder(shape)) == 34_163_628
        assert count(Denoiser(shape, classes=9)) == 294_980_740


def test_tiny_codec_ships_small_and_reconstructs_unseen_masks() -> None:
    assert TINY_CODEC.stat().st_size <= 2_000_000
    masks = draw_masks(64, 64, torch.Generator().manual_seed(12345))
    assert reconstruction_dice(load_tiny_codec(), masks) > 0.97


def test_loss_is_the_weighted_noise_error() -> None:
    # z0 error = k_t x eps error, so that the total is (1 + k_t) times the noise error (one t for the batch).
    schedule = NoiseSchedule.scaled_linear()
    z0, eps, output = torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([500, 500])
    losses = sdseg_loss(output, z0, eps, schedule.add_noise(z0, eps, t), t, schedule)
    k = float(((1 - schedule.alphas_cumprod[500]) / schedule.alphas_cumprod[500]).sqrt())
    assert float(losses.latent) == pytest.approx(k * float(losses.noise), rel=1e-4)
    assert float(losses.total) == pytest.approx((1 + k) * float(losses.noise), rel=1e-4)


def test_loss_trains_encoder_and_denoiser_but_not_the_codec() -> None:
    model = tiny().train()
    image, mask = torch.rand(2, 3, 64, 64) * 2 - 1, draw_masks(2, 64, torch.Generator().manual_seed(0))
    model.loss(image, mask, torch.Generator().manual_seed(0)).total.backward()
    assert all(p.grad is not None for p in model.trained.parameters())
    assert all(p.grad is None for p in model.codec.parameters())
    assert not model.codec.training


@pytest.mark.parametrize(
    ("options", "inference"),
    [({}, {}), ({"prediction": "z0"}, {}), ({}, {"steps": 3}), ({}, {"steps": 2, "eta": 1.0}), ({"labels": 3}, {})],
)
def test_predict_depends_on_each_images_own_generator_alone(options, inference) -> None:
    model = tiny(**options)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    together = model.predict(images, generators(3), **inference)
    alone = [model.predict(images[i : i + 1], [torch.Generator().manual_seed(i)], **inference) for i in range(3)]
    assert together.score.shape == (3, options.get("labels", 1), 64, 64)
    torch.testing.assert_close(together.score, torch.cat([a.score for a in alone]), rtol=0, atol=1e-3)
    assert 0 <= float(together.score.min()) <= float(together.score.max()) <= 1
    assert torch.equal(together.mask, together.score > 0.5)


def test_one_generator_per_image_is_required() -> None:
    with pytest.raises(ValueError, match="generators"):
        tiny().predict(torch.zeros(2, 3, 64, 64), generators(1))


def test_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="divisible by 16"):
        tiny().latent_shape(64, 60)


def test_save_and_load_give_the_same_prediction(tmp_path: Path) -> None:
    model = tiny(prediction="z0")
    model.codec.latent_scale.fill_(0.3)
    model.save_pretrained(tmp_path)
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    again = SDSeg.from_pretrained(tmp_path)
    assert torch.equal(model.predict(image, generators(1)).score, again.predict(image, generators(1)).score)
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a saved SDSeg model"):
        SDSeg.from_pretrained(tmp_path)


def test_a_random_codec_is_never_frozen() -> None:
    shape = ARCHITECTURES["tiny"].model_copy(update={"codec_widths": (8, 16, 16)})
    model = SDSeg(SDSegConfig(architecture=shape))
    with pytest.raises(ValueError, match="pretrained KL-f8 weights"):
        model.prepare(torch.zeros(2, 1, 64, 64, dtype=torch.bool), torch.Generator())


def test_pretrained_codec_is_read_from_a_folder(tmp_path: Path) -> None:
    shape = ARCHITECTURES["tiny"].model_copy(update={"dropout": 0.1})
    load_tiny_codec().save_pretrained(tmp_path)
    model = SDSeg(SDSegConfig(architecture=shape, autoencoder=str(tmp_path)))
    masks = draw_masks(8, 64, torch.Generator().manual_seed(3))
    model.prepare(masks, torch.Generator().manual_seed(0))
    assert reconstruction_dice(model.codec.autoencoder, masks) > 0.97
    assert float(model.codec.encode(masks).std()) == pytest.approx(1, rel=0.1)
