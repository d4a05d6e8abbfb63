"""MedSegDiff's wiring, ensembles, released faults under their own names, and official checkpoints."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from baselines.diffusion import fuse
from baselines.medsegdiff.config import MedSegDiffConfig
from baselines.medsegdiff.loss import mask_error
from baselines.medsegdiff.model import MedSegDiff, binarise, mix
from baselines.medsegdiff.official import load_official, to_official
from baselines.medsegdiff.segmenter import medsegdiff_segmenter
from bench.config import compose_config
from sdseg.training.recipe import Recipe

SMALL: dict[str, Any] = {
    "image_size": 16,
    "width": 8,
    "channel_mult": (1, 2, 2),
    "blocks": 1,
    "attention_px": 4,
    "norm_groups": 4,
    "poolings": 3,
}


def build(version: str, **options: Any) -> MedSegDiff:
    """A small model whose zero-initialised layers are awake."""
    torch.manual_seed(0)
    model = MedSegDiff(MedSegDiffConfig(version=version, **{**SMALL, **options}))  # type: ignore[arg-type]
    for parameter in model.parameters():
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def images(count: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, 16, 16, generator=torch.Generator().manual_seed(9)) * 2 - 1


def count_calls(module: nn.Module) -> list[int]:
    """Grows by one with every call."""
    calls: list[int] = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The samples (B, S, L, H, W) of every prediction."""
    seen: list[torch.Tensor] = []
    monkeypatch.setattr("baselines.medsegdiff.model.fuse", lambda x, fusion: seen.append(x) or fuse(x, fusion))
    return seen


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("v1", {"sampler": "ddpm", "steps": 2}),
        ("v2", {"steps": 2}),
        ("v2", {"sampler": "ddim", "steps": 2, "eta": 1.0}),
        ("v2_paper", {"steps": 2}),
    ],
)
def test_a_sample_depends_on_its_image_and_number_alone(version: str, options: Any, maps: list[torch.Tensor]) -> None:
    model, image = build(version), images()
    together = model.predict(image, generators(2), samples=3, **options)
    apart = model.predict(image, generators(2), samples=3, max_batch=4, **options)
    model.predict(image[1:], generators(2)[1:], samples=2, **options)
    # Rounding alone: a convolution's kernel depends on the batch, and t = 999 multiplies noise 157 times.
    torch.testing.assert_close(apart.score, together.score, rtol=0, atol=1e-4)
    torch.testing.assert_close(maps[2], maps[0][1:, :2], rtol=0, atol=1e-3)
    assert not torch.allclose(maps[0][:, 0], maps[0][:, 1], atol=0.1)
    assert not bool(((apart.mask != together.mask) & ((together.score - 0.5).abs() > 1e-4)).any())


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_prediction_runs_the_highway_once_and_leaves_the_weights_as_they_lie(version: str) -> None:
    model, image = build(version), (images() + 1) / 2
    x_t, t = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(2)), torch.tensor([3.0, 900.5])
    full = model.network(image, x_t, t)
    spared = model.network(image, x_t, t, model.network.guide(image), calibrate=False)
    assert torch.equal(full.eps, spared.eps)
    assert torch.equal(full.v, spared.v)
    before = [(p.data_ptr(), p.stride()) for p in model.parameters()]
    highway, core = count_calls(model.network.hwm), count_calls(model.network.unet.mid_block)
    model.predict(images(), generators(2), steps=3, samples=2)
    assert (len(highway), len(core)) == (1, 3)
    assert [(p.data_ptr(), p.stride()) for p in model.parameters()] == before


def test_the_released_fast_sampler_returns_the_variance_as_z_scores(maps: list[torch.Tensor]) -> None:
    model, outputs = build("v2"), []
    model.network.register_forward_hook(lambda _, __, output: outputs.append(output.v))
    model.predict(images(), generators(2), sampler="official", steps=21, fusion="mean_sq")
    assert len(outputs) == 22
    last = outputs[-1]
    expected = (last - last.mean((1, 2, 3), keepdim=True)) / last.std((1, 2, 3), keepdim=True)
    torch.testing.assert_close(maps[0][:, 0], expected)
    assert float(maps[0].min()) < -0.5  # no mask in [0, 1]


def test_v1s_bottleneck() -> None:
    plain = build("v1", poolings=2)
    seeded, again = (build("v1", poolings=2, v1_bottleneck="seeded") for _ in range(2))
    assert set(plain.state_dict()) == set(seeded.state_dict())
    for model in (seeded, again):
        model.load_state_dict(plain.state_dict())
    image, x_t, t = (images() + 1) / 2, torch.zeros(2, 1, 16, 16), torch.tensor([500, 500])
    eps = [model.network(image, x_t, t).eps for model in (plain, seeded, again)]
    assert torch.equal(eps[1], eps[2])
    assert not torch.allclose(eps[0], eps[1], atol=1e-5)


def test_v2_trains_its_highway_by_the_calibrated_map_alone_and_v1_more() -> None:
    mask = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(4)) > 0.5
    image, gradients = (images() + 1) / 2, {}
    for version in ("v1", "v2"):
        model = build(version)
        draws = model.draw(2, (16, 16), torch.Generator().manual_seed(1))
        noise, bound, calibration = model.errors(image, mask, *draws)
        (noise.mean() + bound.mean()).backward(retain_graph=True)
        assert all(p.grad is None or not bool(p.grad.any()) for p in model.network.hwm.parameters())
        assert bool(model.network.unet.conv_in.weight.grad.any())
        model.zero_grad()
        calibration.mean().backward()
        assert bool(model.network.hwm.seg_outputs[0].weight.grad.any())
        gradients[version] = model.network.unet.conv_in.weight.grad
    assert gradients["v2"] is None or not bool(gradients["v2"].any())
    assert bool(gradients["v1"].any())


def test_v2s_anchors_learn_from_the_denoiser_where_they_are_not_detached() -> None:
    mask = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(4)) > 0.5
    taught = {}
    for detach in (True, False):
        model = build("v2", detach_anchors=detach)
        noise, _, _ = model.errors((images() + 1) / 2, mask, *model.draw(2, (16, 16), torch.Generator().manual_seed(1)))
        noise.mean().backward()
        taught[detach] = any(p.grad is not None and bool(p.grad.any()) for p in model.network.hwm.parameters())
    assert taught == {True: False, False: True}


def test_the_papers_conditioning_sees_time_and_image_and_trains_its_anchor_at_every_fifth_time() -> None:
    model, (_, noise) = build("v2_paper"), build("v2").draw(2, (16, 16), torch.Generator().manual_seed(1))
    mask = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(4)) > 0.5
    reasons = model.errors((images() + 1) / 2, mask, torch.tensor([5, 6]), noise)
    assert reasons[2].detach().gt(0).tolist() == [True, False]
    with pytest.raises(ValueError, match="v2_paper"):
        to_official(model)
    model.loss(images(), mask, (torch.tensor([5, 6]), noise)).total.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    h, emb = torch.randn(2, 16, 4, 4), torch.randn(2, 32)
    guide = torch.randn(2, model.network.hwm.bottleneck_channels, 2, 2)
    ss_former = model.network.ss_former
    assert not torch.allclose(ss_former(h, guide, emb), ss_former(h, guide, emb + 1), atol=1e-6)
    assert not torch.allclose(ss_former(h, guide, emb), ss_former(h, guide + torch.randn_like(guide), emb), atol=1e-6)


def test_loss_weights_and_masks() -> None:
    model = build("v2", mask_binarise="gt0")
    soft = torch.full((2, 1, 16, 16), 0.25)
    assert binarise(soft, "gt0").all()
    assert not binarise(soft, "ge_half").any()
    draws = model.draw(2, (16, 16), torch.Generator().manual_seed(1))
    losses = model.loss(images(), soft, draws)
    torch.testing.assert_close(losses.total, losses.noise + losses.bound + 10 * losses.calibration)
    torch.testing.assert_close(model.loss(images(), torch.ones(2, 1, 16, 16) > 0, draws).total, losses.total)


def test_several_labels_diffuse_together() -> None:
    model = build("v1", labels=2, channels=1)
    prediction = model.predict(images(channels=1), generators(2), steps=2, samples=2)
    assert prediction.score.shape == prediction.mask.shape == (2, 2, 16, 16)
    draws = model.draw(2, (16, 16), torch.Generator().manual_seed(1))
    assert torch.isfinite(model.loss(images(channels=1), torch.ones(2, 2, 16, 16) > 0, draws).total)


def test_mixing_follows_each_samples_agreement() -> None:
    cal = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 1, 2, 2).repeat(2, 1, 1, 1)
    sample = torch.stack([cal[0], 0.8 - cal[0]])  # one agrees, one is the opposite
    mixed = mix(sample, cal)
    torch.testing.assert_close(mixed[0], cal[0])
    torch.testing.assert_close(mixed[1, 0], torch.tensor([[0.95, 0.95], [0.2, 0.2]]))


@pytest.mark.parametrize(("version", "prefix"), [("v1", "module."), ("v2", "")])
def test_released_checkpoints_load(tmp_path: Path, version: str, prefix: str) -> None:
    model, path = build(version), tmp_path / "emasavedmodel_0.9999_005000.pt"
    torch.save(OrderedDict((prefix + name, tensor) for name, tensor in to_official(model).items()), path)
    loaded = load_official(path, image_size=16, norm_groups=4)
    assert loaded.config == model.config
    scores = [m.predict(images(), generators(2), steps=2).score for m in (loaded, model)]
    assert torch.equal(*scores)


def test_a_checkpoint_that_does_not_fit_is_named(tmp_path: Path) -> None:
    state = to_official(build("v2"))
    with pytest.raises(ValueError, match=r"middle_block\.1\.qkv\.weight is missing"):
        load_official({k: v for k, v in state.items() if k != "middle_block.1.qkv.weight"}, norm_groups=4)
    with pytest.raises(ValueError, match="belongs to another network"):
        load_official(state | {"hwm.extra": torch.zeros(1)}, norm_groups=4)
    path = tmp_path / "optsavedmodel005000.pt"
    torch.save({"other": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"optsavedmodel005000\.pt: no MedSegDiff checkpoint"):
        load_official(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 18}, "not divisible"),
        ({"width": 6}, "groups"),
        ({"channel_mult": (2, 2)}, "must begin with 1"),
        ({"poolings": 2}, "poolings be 3"),
        ({"version": "v1", "v1_bottleneck": "seeded"}, "poolings=2"),
    ],
)
def test_impossible_shapes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MedSegDiffConfig(**{**SMALL, **options})


def test_the_segmenter_trains_loads_and_counts_its_calls(tmp_path: Path) -> None:
    task = SimpleNamespace(channels=3, labels=("mask",), image_size=(16, 16))
    recipe = {"steps": 2, "batch_size": 2, "lr": 1e-3, "validate_every": 2}
    shape = {k: v for k, v in SMALL.items() if k != "image_size"}
    made = [medsegdiff_segmenter(task, 0, "cpu", recipe, **shape, steps=3, samples=2) for _ in range(2)]
    items = [{"image": image, "mask": image[:1] > 0} for image in images(4)]
    facts = made[0].fit(items, items[:2], tmp_path)
    assert facts["steps"] == 2
    assert (made[0].evaluations, made[0].samples) == (3, 2)
    made[1].load(tmp_path)
    scores = [m.predict(images(), generators(2)).score for m in made]
    assert torch.equal(*scores)
    assert medsegdiff_segmenter(task, 0, "cpu", recipe, **shape, sampler="official").evaluations == 51
    with pytest.raises(ValueError, match=r"method\.inference\.sampler=plms"):
        medsegdiff_segmenter(task, 0, "cpu", recipe, **shape, sampler="plms")
    wide = SimpleNamespace(channels=3, labels=("mask",), image_size=(16, 32))
    with pytest.raises(ValueError, match="square"):
        medsegdiff_segmenter(wide, 0, "cpu", recipe, **shape, version="v1")
    with pytest.raises(ValueError, match=r"crop=8.*whole images"):
        medsegdiff_segmenter(task, 0, "cpu", recipe | {"crop": 8}, **shape, version="v1")


@pytest.mark.parametrize("profile", ["cpu", "paper"])
def test_no_profile_crops_what_v1_must_see_whole(profile: str) -> None:
    config = compose_config([f"profile={profile}", "method=medsegdiff_v1"])
    size = (config["image_size"],) * 2
    assert Recipe.model_validate(config["method"]["recipe"]).seen(size) == size


def test_helps_for_small_networks_are_off_in_the_release_and_change_only_what_they_say() -> None:
    plain = build("v2")
    helped = build("v2", precondition=True, estimate_weight=2.0, highway_dropout=0.0)
    helped.load_state_dict(plain.state_dict())
    assert (plain.config.precondition, plain.config.estimate_weight) == (False, 0)
    assert plain.config.highway_dropout == 0.5
    image, x_t = (images() + 1) / 2, torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    for t in (0, 500, 999):
        raw, eps = (m.network(image, x_t, torch.tensor([t, t])).eps for m in (plain, helped))
        now = plain.schedule.alpha_bar(t)
        torch.testing.assert_close(eps, (1 - now) ** 0.5 * x_t + now**0.5 * raw, rtol=0, atol=1e-5)
    mask = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(4)) > 0.5
    draws = plain.draw(2, (16, 16), torch.Generator().manual_seed(1))
    helped.config = plain.config.model_copy(update={"estimate_weight": 2.0})
    helped.network.config = plain.config
    with_estimate, without = (m.errors(image, mask, *draws) for m in (helped, plain))
    # An error of the noise counts sqrt(1 / alpha_bar - 1) times in the clean map.
    factor = torch.tensor([1 / plain.schedule.alpha_bar(int(t)) - 1 for t in draws[0]])
    torch.testing.assert_close(with_estimate[0], without[0] * (1 + 2 * factor), rtol=1e-3, atol=1e-5)


def test_a_network_that_predicts_the_mask_gives_the_noise_that_follows_and_learns_by_dice_and_cross_entropy() -> None:
    plain = build("v2")
    helped = build("v2", prediction="mask")
    helped.load_state_dict(plain.state_dict())
    image, x_t = (images() + 1) / 2, torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    for t in (0, 500, 999):
        times = torch.tensor([t, t])
        raw, (eps, v, _, logit) = plain.network(image, x_t, times), helped.network(image, x_t, times)
        assert raw.logit is None
        assert torch.equal(logit, raw.eps)
        assert torch.equal(v, raw.v)
        estimate = helped.schedule.predict_x0(x_t, eps, t)
        # t = 999 multiplies rounding 157 times.
        torch.testing.assert_close(estimate, logit.sigmoid(), rtol=0, atol=2e-3)
    mask = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(4)) > 0.5
    t, noise = helped.draw(2, (16, 16), torch.Generator().manual_seed(1))
    logit = helped.network(image, helped.schedule.add_noise(mask.float(), noise, t), t).logit
    errors, released = (m.errors(image, mask, t, noise) for m in (helped, plain))
    torch.testing.assert_close(errors[0], mask_error(logit, mask.float()))
    assert torch.equal(errors[2], released[2])


def test_the_error_of_a_predicted_mask() -> None:
    mask = torch.zeros(2, 1, 2, 2)
    mask[0, 0, 0] = 1
    undecided = mask_error(torch.zeros_like(mask), mask)  # one half everywhere
    torch.testing.assert_close(undecided, torch.tensor([2 / 5, 2 / 3]) + math.log(2))
    assert mask_error(200 * mask - 100, mask).max() < 1e-6


def test_late_times_are_drawn_more_often_and_noise_as_ever() -> None:
    plain, late = build("v2"), build("v2", late_times=2.0)
    expected = torch.randint(0, 1000, (6,), generator=torch.Generator().manual_seed(3))
    assert torch.equal(plain.draw(6, (16, 16), torch.Generator().manual_seed(3))[0], expected)
    uniform = torch.rand(6, generator=torch.Generator().manual_seed(3))
    t = late.draw(6, (16, 16), torch.Generator().manual_seed(3))[0]
    assert torch.equal(t, (1000 * uniform ** (1 / 3)).long())
    many = late.draw(4000, (1, 1), torch.Generator().manual_seed(3))[0]
    assert int(many.max()) <= 999
    assert abs(float((many < 500).float().mean()) - 1 / 8) < 0.02  # a half cubed


def test_the_release_has_no_help_and_tiny_networks_predict_the_mask() -> None:
    of = {
        p: MedSegDiffConfig(**compose_config([f"profile={p}", "method=medsegdiff_v1"])["method"]["options"])
        for p in ("smoke", "cpu", "gpu", "paper")
    }
    for profile in ("gpu", "paper"):
        assert (of[profile].prediction, of[profile].late_times, of[profile].highway_dropout) == (None, 0, 0.5)
    assert all(of[profile].prediction == "mask" and of[profile].late_times == 2 for profile in ("smoke", "cpu"))


def test_the_highway_may_learn_faster_and_every_parameter_learns_once() -> None:
    model = build("v2", highway_lr_scale=5.0)
    rest, highway = model.parameter_groups()
    assert (rest["lr_scale"], highway["lr_scale"]) == (1.0, 5.0)
    assert {id(p) for p in highway["params"]} == {id(p) for p in model.network.hwm.parameters()}
    both = [id(p) for group in (rest, highway) for p in group["params"]]
    assert sorted(both) == sorted(id(p) for p in model.network.parameters())
    assert build("v2").config.highway_lr_scale == 1


def test_v1s_frequency_weights_may_lie_in_any_memory_format() -> None:
    model = build("v1")
    shown, x_t, t = (images() + 1) / 2, torch.ones(2, 1, 16, 16), torch.tensor([10, 900])
    expected = model.network(shown, x_t, t).cal
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model.network(shown, x_t, t).cal, expected, rtol=0, atol=1e-5)


def test_predicting_does_less_work_to_the_same_bits() -> None:
    network = build("v2").network
    x_t, t = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 900])
    expected = network(images(), x_t, t)
    with torch.no_grad():
        answer = network(images(), x_t, t)
    assert expected.eps.requires_grad
    assert torch.equal(answer.eps, expected.eps)
    assert torch.equal(answer.v, expected.v)


def test_a_wider_highway_adds_as_many_anchors_as_the_denoiser_has_channels() -> None:
    config = MedSegDiffConfig(image_size=32, width=8, channel_mult=(1, 2), blocks=1, norm_groups=4, poolings=3)
    image = torch.rand(1, 3, 32, 32)
    for share in (4, 2, 1):
        model = MedSegDiff(config.model_copy(update={"highway_share": share})).eval()
        highway = model.network.hwm(image)
        assert highway.decoded[-1].shape[1] == 8 // share
        guide = model.network.guide(image)
        assert guide is not None
        assert guide.anchors.shape == (1, 8, 32, 32)
        first = torch.nn.functional.interpolate(highway.decoded[-2], (32, 32), mode="bilinear", align_corners=False)
        assert torch.equal(guide.anchors[:, : 8 // share], first)
