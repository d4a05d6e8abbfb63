"""SDSeg's networks and its two verbs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sdseg.architecture import ARCHITECTURES
from sdseg.config import SDSegConfig
from sdseg.denoiser import Denoiser, build_unet
from sdseg.labels import choose_class, class_masks
from sdseg.loss import sdseg_loss
from sdseg.mask_codec import TINY_CODEC, build_autoencoder, load_tiny_codec
from sdseg.model import Draws, SDSeg
from sdseg.schedule import NoiseSchedule
from sdseg.training.codec_training import reconstruction_dice
from sdseg.training.procedural_masks import draw_masks
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


def draws(model: SDSeg, count: int) -> Draws:
    return model.draw(count, (64, 64), torch.Generator().manual_seed(0))


def test_cross_attention_network_has_the_size_of_the_inferred_baseline() -> None:
    with torch.device("meta"):
        denoiser = Denoiser(ARCHITECTURES["paper"], conditioning="cross_attention")
    assert count(denoiser) == 378_348_484


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
    model.loss(image, mask, draws(model, 2)).total.backward()
    assert all(p.grad is not None for p in model.trained.parameters())
    assert all(p.grad is None for p in model.codec.parameters())
    assert not model.codec.training


@pytest.mark.parametrize(
    ("options", "inference"),
    [
        ({}, {}),
        ({"prediction": "z0"}, {}),
        ({"prediction": "v"}, {}),
        ({}, {"steps": 3}),
        ({}, {"steps": 2, "eta": 1.0}),
        ({"labels": 3}, {}),
        ({"conditioning": "cross_attention"}, {}),
        ({"vision_encoder": "frozen"}, {}),
    ],
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


def untied(**options: object) -> SDSeg:
    """A tiny model whose output depends on everything (the zero initialisation is undone)."""
    model = tiny(**options)
    generator = torch.Generator().manual_seed(5)
    for parameter in model.denoiser.parameters():
        if not parameter.any():
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("conditioning", ["concat", "cross_attention"])
@pytest.mark.parametrize("encoder", ["trainable", "frozen"])
def test_the_image_reaches_the_answer_under_every_conditioning(conditioning: str, encoder: str) -> None:
    model = untied(conditioning=conditioning, vision_encoder=encoder)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    z_T = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2)).expand(2, -1, -1, -1)
    first, second = model.denoise(z_T, model.condition(images), torch.tensor([999, 999]), torch.zeros(2).long())
    assert float((first - second).detach().abs().max()) > 1e-5
    model.train()
    model.loss(images, draw_masks(2, 64, torch.Generator().manual_seed(0)), draws(model, 2)).total.backward()
    assert all(p.grad is not None for p in model.trained.parameters())
    assert ("vision_encoder" in model.trained) == (encoder == "trainable")


def test_frozen_encoder_is_the_codecs_mean() -> None:
    model = tiny(vision_encoder="frozen")
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    expected = model.codec.autoencoder.encode(image).latent_dist.mode()
    assert torch.equal(model.condition(image), expected)


def test_no_latent_loss_leaves_the_noise_error_alone() -> None:
    model = untied(latent_weight=0.0)
    image, mask = torch.rand(2, 3, 64, 64) * 2 - 1, draw_masks(2, 64, torch.Generator().manual_seed(0))
    losses = model.loss(image, mask, draws(model, 2))
    assert float(losses.total.detach()) == pytest.approx(float(losses.noise))
    assert float(losses.latent) > float(losses.noise)


def test_without_noise_the_answer_is_deterministic_and_trained_at_the_last_step() -> None:
    model = untied(prediction="z0", noise="zeros", timesteps="last")
    drawn = draws(model, 4)
    assert drawn.t.tolist() == [999] * 4
    assert not drawn.eps.any()
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    scores = [model.predict(image, [torch.Generator().manual_seed(seed)]).score for seed in (1, 2)]
    assert torch.equal(*scores)


def test_without_noise_the_network_sees_nothing_of_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = untied(prediction="z0", noise="zeros", timesteps="last"), []
    network = model.denoiser.forward
    monkeypatch.setattr(model.denoiser, "forward", lambda z_t, *rest: seen.append(z_t) or network(z_t, *rest))
    image, mask = torch.rand(2, 3, 64, 64) * 2 - 1, draw_masks(2, 64, torch.Generator().manual_seed(0))
    model.loss(image, mask, draws(model, 2))
    assert not seen[0].any()
    with pytest.raises(ValueError, match="no noise to predict"):
        tiny(noise="zeros")


def test_pixel_loss_reaches_the_denoiser_through_the_decoder() -> None:
    model = untied(prediction="z0", noise="zeros", timesteps="last", latent_weight=0.0, pixel_weight=1.0)
    image, mask = torch.rand(2, 3, 64, 64) * 2 - 1, draw_masks(2, 64, torch.Generator().manual_seed(0))
    losses = model.loss(image, mask, draws(model, 2))
    assert losses.pixel is not None
    assert float(losses.total.detach()) == pytest.approx(float(losses.noise + losses.pixel))
    (gradient,) = torch.autograd.grad(losses.total - losses.noise, model.denoiser.unet.conv_out.weight)
    plain = untied(prediction="z0", noise="zeros", timesteps="last", latent_weight=0.0)
    other = plain.loss(image, mask, draws(plain, 2)).total
    (without,) = torch.autograd.grad(other, plain.denoiser.unet.conv_out.weight)
    assert float((gradient - without).abs().max()) > 1e-4


def test_softmax_labels_exclude_each_other_and_train_on_what_is_present() -> None:
    model = untied(labels=3, multiclass="softmax")
    assert model.denoiser.unet.class_embedding.num_embeddings == 4
    answer = model.predict(torch.rand(2, 3, 64, 64) * 2 - 1, generators(2))
    assert answer.score.shape == (2, 3, 64, 64)
    assert int(answer.mask.sum(1).max()) <= 1
    mask = torch.zeros(1, 3, 8, 8, dtype=torch.bool)
    mask[0, 1, 2:4, 2:4] = True
    classes = class_masks(mask, model.config)
    chosen = {int(choose_class(classes, torch.tensor([u]), model.config)) for u in torch.linspace(0, 0.999, 50)}
    assert chosen == {0, 2}  # the union, and the second label
    empty = class_masks(torch.zeros_like(mask), model.config)
    assert int(choose_class(empty, torch.tensor([0.7]), model.config)) == 0


def test_independent_labels_are_chosen_evenly() -> None:
    config = tiny(labels=3).config
    mask = torch.zeros(300, 3, 2, 2, dtype=torch.bool)
    chosen = choose_class(mask, torch.linspace(0, 0.999, 300), config)
    assert torch.bincount(chosen).tolist() == [100, 100, 100]


def test_latent_scale_of_the_first_batch_of_the_data_set_or_a_number() -> None:
    batches = [draw_masks(4, 64, torch.Generator().manual_seed(seed)) for seed in (0, 1, 2)]
    scales = {}
    for kind in ("first_batch", "dataset", 0.25):
        model = tiny(latent_scale=kind)
        model.prepare(iter(batches), torch.Generator().manual_seed(9))
        scales[kind] = float(model.codec.latent_scale)
    codec, generator = tiny().codec, torch.Generator().manual_seed(9)
    noise = [torch.randn(4, 4, 16, 16, generator=generator) for _ in batches]
    latents = [codec.encode(m, n) for m, n in zip(batches, noise, strict=True)]
    assert scales["first_batch"] == pytest.approx(1 / float(latents[0].std()), rel=1e-5)
    assert scales["dataset"] == pytest.approx(1 / float(torch.cat(latents).std()), rel=1e-5)
    assert scales[0.25] == 0.25


def test_class_embedding_learns_faster_where_asked() -> None:
    groups = tiny(labels=3, label_lr_scale=100.0).parameter_groups()
    assert [g["lr_scale"] for g in groups] == [1.0, 100.0]
    assert [p.shape for p in groups[1]["params"]] == [(3, 128)]
    assert len(tiny(labels=3).parameter_groups()) == 1


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


def test_a_saved_model_takes_no_more_memory_than_its_weights(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["architecture"]["unet_widths"] = [2**20 for _ in content["architecture"]["unet_widths"]]
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"is of a model of \d+ numbers, model\.safetensors holds \d+"):
        SDSeg.from_pretrained(tmp_path)


def test_a_random_codec_is_never_frozen() -> None:
    shape = ARCHITECTURES["tiny"].model_copy(update={"codec_widths": (8, 16, 16)})
    model = SDSeg(SDSegConfig(architecture=shape))
    with pytest.raises(ValueError, match="pretrained KL-f8 weights"):
        model.prepare([torch.zeros(2, 1, 64, 64, dtype=torch.bool)], torch.Generator())


def test_pretrained_parts_are_the_start_of_training(tmp_path: Path) -> None:
    shape = ARCHITECTURES["tiny"].model_copy(update={"vision_widths": (16, 32, 64), "vision_attention": False})
    load_tiny_codec().save_pretrained(tmp_path / "codec")
    other = build_unet(shape)
    other.save_pretrained(tmp_path / "unet")
    parts = {"autoencoder": str(tmp_path / "codec"), "denoiser_weights": str(tmp_path / "unet")}
    model = SDSeg(SDSegConfig(architecture=shape, **parts))
    model.prepare([draw_masks(4, 64, torch.Generator().manual_seed(3))], torch.Generator().manual_seed(0))
    ours, theirs = model.vision_encoder.encoder.state_dict(), model.codec.autoencoder.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(model.denoiser.unet.conv_in.weight, other.conv_in.weight)


def test_pretrained_codec_is_read_from_a_folder(tmp_path: Path) -> None:
    shape = ARCHITECTURES["tiny"].model_copy(update={"dropout": 0.1})
    load_tiny_codec().save_pretrained(tmp_path)
    model = SDSeg(SDSegConfig(architecture=shape, autoencoder=str(tmp_path)))
    masks = draw_masks(8, 64, torch.Generator().manual_seed(3))
    model.prepare([masks], torch.Generator().manual_seed(0))
    assert reconstruction_dice(model.codec.autoencoder, masks) > 0.97
    assert float(model.codec.encode(masks).std()) == pytest.approx(1, rel=0.1)
