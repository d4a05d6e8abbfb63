"""Controls of noise: what the networks of the three methods see, what they are trained towards, what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from baselines.diff_unet.model import TrainableDiffUNet
from baselines.diff_unet.network import DiffUNet
from baselines.diff_unet.segmenter import diff_unet_segmenter
from baselines.medsegdiff.config import MedSegDiffConfig
from baselines.medsegdiff.model import MedSegDiff
from baselines.medsegdiff.segmenter import medsegdiff_segmenter
from sdseg.architecture import ARCHITECTURES
from sdseg.config import SDSegConfig
from sdseg.control import Control, derangement
from sdseg.model import SDSeg
from sdseg.segmenter import sdseg_segmenter
from sdseg.training.latent_cache import LatentCache
from sdseg.training.procedural_masks import draw_masks
from tests.test_medsegdiff import SMALL

METHODS = ("sdseg", "medsegdiff", "diff_unet")
CONTROLS: tuple[Control | None, ...] = (None, "random", "shuffled", "none")
FEATURES = (4, 4, 4, 4, 8, 4)
COUNT, SIZE = 4, (32, 32)
TASK = SimpleNamespace(channels=3, labels=("a",), image_size=SIZE, dims=2)
RECIPE = {"steps": 1, "batch_size": 2, "lr": 1e-3}


def build(method: str, control: Control | None, labels: int = 1) -> Any:
    """A small model that predicts the clean mask, with no layer asleep and no dropout."""
    torch.manual_seed(0)
    model: nn.Module
    if method == "sdseg":
        tiny = ARCHITECTURES["tiny"]
        model = SDSeg(SDSegConfig(architecture=tiny, prediction="z0", control=control, labels=labels))
    elif method == "medsegdiff":
        options = {**SMALL, "image_size": SIZE[0], "prediction": "x0", "control": control, "labels": labels}
        model = MedSegDiff(MedSegDiffConfig(**options))
    else:
        model = TrainableDiffUNet(DiffUNet(2, 3, labels, FEATURES), control=control)
    for parameter in model.parameters():
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.05)
    return model.eval()


def core(model: Any) -> nn.Module:
    """The part that gets the noised mask and the time."""
    if isinstance(model, SDSeg):
        return model.denoiser
    return model.network.unet if isinstance(model, MedSegDiff) else model.network.model


class Seen:
    """Noised masks and times of every call of a model's network."""

    def __init__(self, model: Any) -> None:
        self.masks: list[torch.Tensor] = []
        self.times: list[torch.Tensor] = []
        self.model = model
        part = core(model)
        if isinstance(model, MedSegDiff):  # called piece by piece
            part.time_proj.register_forward_hook(lambda _, inputs, out: self.times.append(inputs[0].long()))
            part.conv_in.register_forward_hook(lambda _, inputs, out: self.masks.append(inputs[0][:, 3:]))
        else:
            part.register_forward_hook(self._keep)

    def _keep(self, _: nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        mask, time = (inputs[0], inputs[2]) if isinstance(self.model, SDSeg) else (inputs[1], inputs[2])
        self.masks.append(mask)
        self.times.append(time)


def images(count: int = COUNT) -> torch.Tensor:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def masks(labels: int = 1) -> torch.Tensor:
    return torch.cat([draw_masks(COUNT, SIZE[0], torch.Generator().manual_seed(i)) for i in range(labels)], dim=1)


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def step(model: Any, mask: torch.Tensor) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Loss, noised masks and times that the network saw in the training step of one seed."""
    seen = Seen(model)
    with torch.no_grad():
        losses = model.loss(images(), mask, model.draw(COUNT, SIZE, generator()))
    return float(losses.total), seen.masks[0], seen.times[0]


def test_partners_are_one_cycle_through_the_batch() -> None:
    partners = {tuple(derangement(4, generator(seed)).tolist()) for seed in range(200)}
    assert len(partners) == 6  # all cycles of four
    for partner in partners:
        walk = [0]
        while len(walk) < 4:
            walk.append(partner[walk[-1]])
        assert sorted(walk) == [0, 1, 2, 3]


@pytest.mark.parametrize("method", METHODS)
def test_what_the_network_sees(method: str) -> None:
    mask = masks()
    full, random, shuffled, none = (step(build(method, control), mask) for control in CONTROLS)
    draws = build(method, "shuffled").draw(COUNT, SIZE, generator())
    noise, partner = (draws.eps, draws.partner) if method == "sdseg" else draws[1:]
    # The full method first: the same model with the masks of the partners.
    assert not torch.equal(full[1], random[1])
    assert torch.equal(random[1], noise)
    assert not none[1].any()
    assert none[2].tolist() == [999] * COUNT
    assert torch.equal(full[2], random[2])
    assert torch.equal(full[2], shuffled[2])
    model = build(method, None)
    if method == "sdseg":
        drawn = model.draw(COUNT, SIZE, generator())
        z0 = model.codec.sample(model.codec.moments(mask), drawn.posterior)
        expected = model.schedule.add_noise(z0[partner], noise, drawn.t)
        torch.testing.assert_close(shuffled[1], expected)
    else:
        assert torch.equal(shuffled[1], step(model, mask[partner])[1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("control", CONTROLS)
def test_input_and_loss_depend_on_the_masks_that_they_should(method: str, control: Control | None) -> None:
    """Case 0's mask is replaced: whose input changes, and whose loss."""
    model, mask = build(method, control), masks()
    draws = model.draw(COUNT, SIZE, generator())
    other = mask.clone()
    other[0] = ~other[0]
    before, after = (step(model, m)[1] for m in (mask, other))
    changed = (before != after).flatten(1).any(1).tolist()
    partner = None if control != "shuffled" else (draws.partner if method == "sdseg" else draws[2]).tolist()
    expected = {None: [True, False, False, False], "shuffled": [p == 0 for p in partner or ()]}
    assert changed == expected.get(control, [False] * COUNT)
    assert step(model, mask)[0] != step(model, other)[0]  # the target is the case's own mask


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("control", CONTROLS)
def test_the_target_is_the_clean_mask_of_the_case(method: str, control: Control | None) -> None:
    """A network that puts out the clean mask whatever it sees has no error, under every control."""
    model, mask = build(method, control), masks()
    draws = model.draw(COUNT, SIZE, generator())
    if method == "sdseg":
        z0 = model.codec.sample(model.codec.moments(mask), draws.posterior)
        model.denoiser.register_forward_hook(lambda *_: z0)
        assert float(model.loss(images(), mask, draws).total) == 0
    elif method == "medsegdiff":
        clean = torch.cat([mask.float(), torch.zeros(COUNT, 1, *SIZE)], dim=1)
        model.network.unet.conv_out.register_forward_hook(lambda *_: clean)
        assert float(model.loss(images(), mask, draws).noise) < 1e-6
    else:
        logits = 40.0 * (2 * mask.float() - 1)
        model.network.model.register_forward_hook(lambda *_: logits)
        assert float(model.loss(images(), mask, draws).total) < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_prediction_shows_the_network_what_training_did(method: str) -> None:
    seen = {}
    for control in CONTROLS:
        model = build(method, control)
        seen[control] = Seen(model)
        for seeds in ((0, 1), (5, 6)):
            model.predict(images(2), [generator(seed) for seed in seeds], steps=3)
    first = seen[None].masks[0]  # the start
    for control in ("random", "shuffled"):
        assert len(seen[control].masks) == 6
        assert torch.equal(seen[control].masks[0], first)
        assert not torch.equal(seen[control].masks[3], first)  # other generators
        assert torch.equal(seen[control].times[1], seen[None].times[1])
    assert all(torch.equal(x, first) for x in seen["random"].masks[:3])
    assert not torch.equal(seen["shuffled"].masks[1], first)
    assert [bool(x.any()) for x in seen["none"].masks] == [False, False]
    assert seen["none"].times[0].tolist() == [999, 999]


def test_sdseg_without_diffusion_is_sdseg_direct() -> None:
    tiny = ARCHITECTURES["tiny"]
    direct = SDSegConfig(architecture=tiny, prediction="z0", timesteps="last", noise="zeros")
    none = SDSegConfig(architecture=tiny, prediction="z0", control="none")
    assert none.model_copy(update={"control": None}) == direct
    torch.manual_seed(0)
    model = SDSeg(direct).eval()
    torch.manual_seed(0)
    assert step(model, masks())[0] == step(SDSeg(none).eval(), masks())[0]


def test_a_partner_shows_its_mask_of_the_same_label() -> None:
    model, mask = build("sdseg", "shuffled", labels=2), masks(2)
    for cache in (None, LatentCache(model.codec, 2 * COUNT)):
        model.cache = cache
        draws = model.draw(COUNT, SIZE, generator())
        seen = Seen(model)
        with torch.no_grad():
            model.loss(images(), mask, draws, torch.arange(COUNT))
        label = (draws.class_u >= 0.5).long()
        shown = mask[draws.partner, label].unsqueeze(1)
        z0 = model.codec.sample(model.codec.moments(shown), draws.posterior[draws.partner])
        expected = model.schedule.add_noise(z0, draws.eps, draws.t)
        torch.testing.assert_close(seen.masks[0], expected, rtol=0, atol=1e-5)


def segmenter(method: str, recipe: dict[str, Any], **options: Any) -> Any:
    make: Any = {"sdseg": sdseg_segmenter, "medsegdiff": medsegdiff_segmenter, "diff_unet": diff_unet_segmenter}[method]
    small = {"medsegdiff": {k: v for k, v in SMALL.items() if k != "image_size"}, "diff_unet": {"features": FEATURES}}
    dims = {"dims": 2} if method == "diff_unet" else {}
    return make(TASK, 0, "cpu", RECIPE | recipe, **{**small.get(method, {}), **dims, **options})


CLEAN = {"sdseg": {"prediction": "z0"}, "medsegdiff": {"prediction": "x0"}, "diff_unet": {}}


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_without_a_partner_is_refused_when_the_method_is_built(method: str) -> None:
    for recipe, words in (({"batch_size": 1}, "train.batch_size=1"), ({"accumulate": 2}, "train.accumulate=1")):
        with pytest.raises(ValueError, match=words):
            segmenter(method, recipe, control="shuffled", **CLEAN[method])
        segmenter(method, recipe, control="random", **CLEAN[method])


@pytest.mark.parametrize("method", METHODS)
def test_without_diffusion_an_answer_is_one_call(method: str) -> None:
    made = segmenter(method, {}, control="none", steps=5, **CLEAN[method])
    assert (made.evaluations, made.samples) == (1, 1)
    assert segmenter(method, {}, steps=5, **CLEAN[method]).evaluations == 5


def test_what_has_no_meaning_is_refused() -> None:
    for method in ("sdseg", "medsegdiff"):
        with pytest.raises(ValueError, match="control=random: what predicts noise has no target"):
            segmenter(method, {}, control="random")
    with pytest.raises(ValueError, match="control=shuffled needs noise=gaussian"):
        segmenter("sdseg", {}, control="shuffled", prediction="z0", noise="zeros")
    with pytest.raises(ValueError, match="control=odd: known are null, random, shuffled, none"):
        segmenter("diff_unet", {}, control="odd")
    with pytest.raises(ValueError, match="sampler=official"):
        segmenter("medsegdiff", {}, prediction="x0", sampler="official")
    with pytest.raises(ValueError, match="every fifth time"):
        segmenter("medsegdiff", {}, prediction="x0", control="none", version="v2_paper")
