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
from sdseg.loss import Draws, Losses, sdseg_loss
from sdseg.mask_codec import TINY_CODEC, build_autoencoder, load_tiny_codec
from sdseg.model import SDSeg
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


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def training_loss(model: SDSeg) -> Losses:
    """Of two images and masks."""
    return model.loss(images(), draw_masks(2, 32, torch.Generator().manual_seed(0)), draws(model, 2))


def draws(model: SDSeg, count: int) -> Draws:
    return model.draw(count, (32, 32), torch.Generator().manual_seed(0))


def test_paper_architecture_has_the_published_sizes() -> None:
    shape = ARCHITECTURES["paper"]
    with torch.device("meta"):
        denoiser = Denoiser(shape)
        assert count(denoiser) == 294_973_828
        assert len(denoiser.state_dict()) == 604
        assert count(build_autoencoder(shape)) == 83_653_863
        assert count(VisionEncoder(shape)) == 34_163_628
        assert count(Denoiser(shape, classes=9)) == 294_980_740
        assert count(Denoiser(shape, conditioning="cross_attention")) == 378_348_484


def test_tiny_codec_ships_small_and_reconstructs_unseen_masks() -> None:
    assert TINY_CODEC.stat().st_size <= 2_000_000
    masks = draw_masks(16, 64, torch.Generator().manual_seed(12345))
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


@pytest.mark.parametrize(
    ("options", "inference"),
    [
        ({"prediction": "v"}, {}),
        ({}, {"steps": 2, "eta": 1.0}),
        ({"labels": 3}, {}),
        ({"conditioning": "cross_attention"}, {}),
    ],
)
def test_predict_depends_on_each_images_own_generator_alone(options, inference) -> None:
    model = tiny(**options)
    together = model.predict(images(3), generators(3), **inference)
    alone = model.predict(images(3)[2:], generators(3)[2:], **inference)
    assert together.score.shape == (3, options.get("labels", 1), 32, 32)
    torch.testing.assert_close(together.score[2:], alone.score, rtol=0, atol=1e-3)
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


@pytest.mark.parametrize(("conditioning", "encoder"), [("concat", "trainable"), ("cross_attention", "frozen")])
def test_the_image_reaches_the_answer_under_every_conditioning(conditioning: str, encoder: str) -> None:
    model = untied(conditioning=conditioning, vision_encoder=encoder)
    z_T = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2)).expand(2, -1, -1, -1)
    first, second = model.denoise(z_T, model.condition(images()), torch.tensor([999, 999]), torch.zeros(2).long())
    assert float((first - second).detach().abs().max()) > 1e-5
    training_loss(model.train()).total.backward()
    assert all(p.grad is not None for p in model.trained.parameters())
    assert all(p.grad is None for p in model.codec.parameters())
    assert not model.codec.training
    assert ("vision_encoder" in model.trained) == (encoder == "trainable")


def test_frozen_encoder_is_the_codecs_mean() -> None:
    model = tiny(vision_encoder="frozen")
    expected = model.codec.autoencoder.encode(images()).latent_dist.mode()
    assert torch.equal(model.condition(images()), expected)


def test_no_latent_loss_leaves_the_noise_error_alone() -> None:
    losses = training_loss(untied(latent_weight=0.0))
    assert float(losses.total.detach()) == pytest.approx(float(losses.noise))
    assert float(losses.latent) > float(losses.noise)


DIRECT = {"prediction": "z0", "noise": "zeros", "timesteps": "last"}


def test_without_noise_the_network_sees_nothing_of_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = untied(**DIRECT), []
    assert draws(model, 4).t.tolist() == [999] * 4
    scores = [model.predict(images(1), [torch.Generator().manual_seed(seed)]).score for seed in (1, 2)]
    assert torch.equal(*scores)
    model.denoiser.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    training_loss(model)
    assert not seen[0].any()
    with pytest.raises(ValueError, match="no noise to predict"):
        tiny(noise="zeros")


def test_pixel_loss_reaches_the_denoiser_through_the_decoder() -> None:
    model = untied(**DIRECT, latent_weight=0.0, pixel_weight=1.0)
    losses = training_loss(model)
    assert float(losses.total.detach()) == pytest.approx(float(losses.noise + losses.pixel))
    plain, last = untied(**DIRECT, latent_weight=0.0), "denoiser.unet.conv_out.weight"
    pairs = ((model, losses.total), (plain, training_loss(plain).total))
    gradient, without = (torch.autograd.grad(total, m.get_parameter(last))[0] for m, total in pairs)
    assert float((gradient - without).abs().max()) > 1e-4


def test_softmax_labels_exclude_each_other_and_train_on_what_is_present() -> None:
    model = untied(labels=3, multiclass="softmax")
    assert model.denoiser.unet.class_embedding.num_embeddings == 4
    answer = model.predict(images(), generators(2))
    assert answer.score.shape == (2, 3, 32, 32)
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
    batches = [draw_masks(4, 32, torch.Generator().manual_seed(seed)) for seed in (0, 1, 2)]
    scales = {}
    for kind in ("first_batch", "dataset", 0.25):
        model = tiny(latent_scale=kind)
        model.prepare(iter(batches), torch.Generator().manual_seed(9))
        scales[kind] = float(model.codec.latent_scale)
    codec, generator = tiny().codec, torch.Generator().manual_seed(9)
    noise = [torch.randn(4, 4, 8, 8, generator=generator) for _ in batches]
    latents = [codec.encode(m, n) for m, n in zip(batches, noise, strict=True)]
    assert scales["first_batch"] == pytest.approx(1 / float(latents[0].std()), rel=1e-5)
    assert scales["dataset"] == pytest.approx(1 / float(torch.cat(latents).std()), rel=1e-5)
    assert scales[0.25] == 0.25


def test_class_embedding_learns_faster_where_asked() -> None:
    groups = tiny(labels=3, label_lr_scale=100.0).parameter_groups()
    assert [g["lr_scale"] for g in groups] == [1.0, 100.0]
    assert [p.shape for p in groups[1]["params"]] == [(3, 128)]
    assert len(tiny(labels=3).parameter_groups()) == 1


def test_what_does_not_fit_is_refused() -> None:
    model = tiny()
    with pytest.raises(ValueError, match="generators"):
        model.predict(images(), generators(1))
    with pytest.raises(ValueError, match="divisible by 16"):
        model.latent_shape(64, 60)
    shape = ARCHITECTURES["tiny"].model_copy(update={"codec_widths": (8, 16, 16)})
    with pytest.raises(ValueError, match="pretrained KL-f8 weights"):
        SDSeg(SDSegConfig(architecture=shape)).prepare([torch.zeros(2, 1, 64, 64) > 0], torch.Generator())


def test_save_and_load_give_the_same_prediction(tmp_path: Path) -> None:
    model = tiny(prediction="z0")
    model.codec.latent_scale.fill_(0.3)
    model.save_pretrained(tmp_path)
    again = SDSeg.from_pretrained(tmp_path)
    assert torch.equal(*(m.predict(images(1), generators(1)).score for m in (model, again)))
    content = json.loads((tmp_path / "config.json").read_text())
    content["architecture"]["unet_widths"] = [2**20 for _ in content["architecture"]["unet_widths"]]
    (tmp_path / "config.json").write_text(json.dumps(content))
    # Found before so large a model is made.
    with pytest.raises(ValueError, match=r"is of a model of \d+ numbers, model\.safetensors holds \d+"):
        SDSeg.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a saved SDSeg model"):
        SDSeg.from_pretrained(tmp_path)


def test_pretrained_parts_are_the_start_of_training(tmp_path: Path) -> None:
    shape = ARCHITECTURES["tiny"].model_copy(update={"vision_widths": (16, 32, 64), "vision_attention": False})
    load_tiny_codec().save_pretrained(tmp_path / "codec")
    other = build_unet(shape)
    other.save_pretrained(tmp_path / "unet")
    parts = {"autoencoder": str(tmp_path / "codec"), "denoiser_weights": str(tmp_path / "unet")}
    model = SDSeg(SDSegConfig(architecture=shape, **parts))
    masks = draw_masks(8, 64, torch.Generator().manual_seed(3))
    model.prepare([masks], torch.Generator().manual_seed(0))
    ours, theirs = model.vision_encoder.encoder.state_dict(), model.codec.autoencoder.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(model.denoiser.unet.conv_in.weight, other.conv_in.weight)
    assert reconstruction_dice(model.codec.autoencoder, masks) > 0.97
    assert float(model.codec.encode(masks).std()) == pytest.approx(1, rel=0.1)


def test_a_flow_is_trained_on_the_velocity_and_followed_by_euler() -> None:
    model = untied(prediction="flow", latent_weight=0.0)
    masks, drawn = draw_masks(2, 32, torch.Generator().manual_seed(0)), draws(model, 2)
    z0 = model.codec.sample(model.codec.moments(masks), drawn.posterior)
    wanted = (z0 - drawn.eps) - (z0 - drawn.eps).mean()
    model.denoiser.forward = lambda *_: wanted  # type: ignore[method-assign]
    assert float(model.loss(images(), masks, drawn).total) == pytest.approx(
        float((z0 - drawn.eps).mean().abs()), rel=1e-3
    )
    model.denoiser.forward = lambda z_t, condition, t, label: 3.0 - z_t  # type: ignore[method-assign]
    start = torch.cat([torch.randn(1, *model.latent_shape(32, 32), generator=g) for g in generators(2)])
    ends = []
    model.codec.decode = lambda z: ends.append(z) or torch.zeros(len(z), 3, 32, 32)  # type: ignore[method-assign,func-returns-value]
    for steps in (1, 4):
        model.predict(images(), generators(2), steps=steps)
    torch.testing.assert_close(ends[0], torch.full_like(start, 3.0), rtol=0, atol=1e-5)
    torch.testing.assert_close(ends[1], start + (3.0 - start) * (1 - 0.75**4), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{"noise": "zeros"}, {"schedule": "linear"}, {"control": "random"}])
def test_a_flow_refuses_what_is_not_its_path(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"prediction=flow|control=random"):
        tiny(prediction="flow", **options)
