"""What a supervised network is trained for, by hand; and the size and values that a network is shown."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.losses import DiceLoss
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

import sdseg  # noqa: F401 - first, so that torchvision can be imported
from baselines.normalising import normalised
from baselines.objectives import CeDice, build_objective
from baselines.supervised import Supervised, supervised_segmenter
from bench.build import build_segmenter
from bench.config import compose_config
from bench.types import TaskSpec

RECIPE = {"steps": 1, "batch_size": 2, "lr": 1e-3}


def masks(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.bool).view(1, len(rows), 1, -1)


def build(labels: int = 2, channels: int = 3, **options: Any):
    task = SimpleNamespace(channels=channels, labels=tuple("abcd"[:labels]), image_size=(40, 56), dims=2)
    inner = {"features": [4] * 6, **options.pop("options", {})}
    return supervised_segmenter(task, 0, "cpu", RECIPE, "monai.networks.nets.BasicUNet", inner, **options).model


def test_without_an_objective_it_is_dice_and_cross_entropy_of_every_label() -> None:
    model, image = build(), torch.rand(2, 3, 40, 56) * 2 - 1
    mask = torch.rand(2, 2, 40, 56) > 0.5
    logits, losses = model.network(image), model.loss(image, mask, ())
    dice = DiceLoss(sigmoid=True, batch=True)(logits, mask.float())
    assert torch.equal(losses.total, dice + binary_cross_entropy_with_logits(logits, mask.float()))
    assert losses._fields == ("total", "dice", "bce")
    score, decided = model.eval().predict(image, [])
    assert torch.equal(score, model.network(image).sigmoid())
    assert torch.equal(decided, score > 0.5)


def test_cross_entropy_and_dice_of_two_pixels_by_hand() -> None:
    # Softmax (3/4, 1/4) where the first label is, (1/2, 1/2) where the background is; the second label is nowhere.
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [-1e9, -1e9]]).view(1, 3, 1, 2)
    losses = CeDice(0.4, 0.6).loss(logits, masks([1, 0], [0, 0]))
    ce = -(math.log(3 / 4) + math.log(1 / 2)) / 2
    background = 1 - 2 * (1 / 2) / (1 / 16 + 1 / 4 + 1)
    first = 1 - 2 * (3 / 4) / (9 / 16 + 1 / 4 + 1)
    assert losses.ce.item() == pytest.approx(ce, rel=1e-6)
    assert losses.dice.item() == pytest.approx((background + first + 0.0) / 3, abs=1e-5)  # absent, and not predicted
    assert losses.total.item() == pytest.approx(0.4 * ce + 0.6 * losses.dice.item(), rel=1e-6)


def test_dice_is_of_the_whole_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 2, 4, 4), generator=generator)
    mask = torch.rand((2, 1, 4, 4), generator=generator) > 0.7
    together = CeDice().loss(logits, mask).dice
    side_by_side = CeDice().loss(torch.cat([*logits.split(1)], 3), torch.cat([*mask.split(1)], 3)).dice
    torch.testing.assert_close(together, side_by_side)
    apart = sum(CeDice().loss(*one).dice for one in zip(logits.split(1), mask.split(1), strict=True)) / 2
    assert abs(together - apart) > 1e-3


def test_a_softmax_decides_for_the_most_probable_class() -> None:
    aim = build_objective({"name": "ce_dice"})
    logits = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.5, 3.0]]]).view(1, 3, 1, 3)
    score, mask = aim.decide(aim.probabilities(logits))
    assert torch.equal(score, logits.softmax(1)[:, 1:])
    assert torch.equal(mask, masks([0, 1, 0], [0, 0, 1]))
    assert float(score.max(1).values[0, 0, 1]) < 0.52  # no class needs one half


def test_overlapping_labels_have_no_softmax() -> None:
    with pytest.raises(ValueError, match=r"^method\.options\.objective=ce_dice: labels .* overlap.*dice_bce$"):
        CeDice().loss(torch.zeros(1, 3, 1, 2), masks([1, 1], [0, 1]))


def test_the_objective_says_how_many_channels_a_network_has() -> None:
    assert build(labels=2).network.final_conv.out_channels == 2
    model = build(labels=2, objective={"name": "ce_dice", "ce": 0.4, "dice": 0.6})
    assert model.network.final_conv.out_channels == 3
    assert (model.objective.ce, model.objective.dice) == (0.4, 0.6)
    score, mask = model.eval().predict(torch.zeros(1, 3, 40, 56), [])
    assert score.shape == mask.shape == (1, 2, 40, 56)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "dice"}, "objective=dice: known are dice_bce, ce_dice"),
        ({"objective": {"name": "ce_dice", "bce": 1}}, "objective=ce_dice: .*'bce'"),
        ({"normalise": "mean"}, "normalise=mean: known are none, unit, imagenet"),
        ({"normalise": "imagenet", "channels": 4}, "normalise=imagenet: for 1 or 3 channels, this dataset has 4"),
        ({"input_size": [32, 32, 32]}, r"input_size=\[32, 32, 32\]: expected an edge or two"),
        ({"input_size": 0}, r"input_size=\[0, 0\]: expected an edge or two"),
        ({"input_size": 32, "window": (32, 32)}, "input_size=32: for whole images, not for windows"),
    ],
)
def test_options_that_do_not_fit_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"method\.options\.{message}"):
        build(**options)


class Echo(torch.nn.Module):
    """The first channels of what it is shown, as logits."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, self.seen = channels, torch.empty(0)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen = image
        return image[:, : self.channels]


def test_a_network_is_shown_its_own_size_and_the_softmax_comes_back_before_the_decision() -> None:
    echo, aim = Echo(2), CeDice()
    model = Supervised(echo, objective=aim, input_size=(16, 24))
    image = torch.rand(2, 3, 40, 56) * 2 - 1
    score, mask = model.predict(image, [])
    small = interpolate(image, (16, 24), mode="bilinear")
    assert torch.equal(echo.seen, small)
    share = interpolate(small[:, :2].softmax(1), (40, 56), mode="bilinear")
    assert torch.equal(score, share[:, 1:])
    assert torch.equal(mask, share[:, 1:] > share[:, :1])


def test_the_loss_is_taken_at_the_networks_size() -> None:
    model = Supervised(Echo(3), objective=CeDice(), input_size=(4, 4))
    image, mask = torch.rand(1, 3, 8, 8) * 2 - 1, torch.zeros(1, 2, 8, 8, dtype=torch.bool)
    mask[:, 0, :4], mask[:, 1, 4:] = True, True  # two labels that touch stay apart
    small = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    small[:, 0, :2], small[:, 1, 2:] = True, True
    expected = CeDice().loss(interpolate(image, (4, 4), mode="bilinear"), small)
    assert torch.equal(model.loss(image, mask, ()).total, expected.total)
    shifted = Supervised(Echo(3), objective=CeDice(), input_size=(3, 3)).loss(image, mask, ())  # an edge within a pixel
    assert torch.isfinite(shifted.total)


def test_values_that_a_network_expects() -> None:
    grey = torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 1, 3)
    assert normalised(grey, "none") is grey
    assert normalised(grey, "unit").flatten().tolist() == [0.0, 0.5, 1.0]
    imagenet = normalised(grey, "imagenet")
    assert imagenet.shape == (1, 3, 1, 3)
    assert imagenet[0, :, 0, 2].tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], abs=1e-4)
    echo = Echo(1)
    Supervised(echo, divisor=4, normalise="unit").logits(grey)
    assert echo.seen.shape == (1, 1, 4, 4)
    assert echo.seen.min() == 0  # what is added around is black


@pytest.mark.parametrize(("method", "rate", "ce"), [("trans_unet", 0.01, 0.5), ("swin_unet", 0.05, 0.4)])
def test_networks_of_a_size_of_their_own_as_the_configuration_has_them(method: str, rate: float, ce: float) -> None:
    small, published = (compose_config([f"profile={p}", f"method={method}", "device=cpu"]) for p in ("smoke", "paper"))
    assert published["method"]["fidelity"] == "reimplemented"
    assert published["method"]["options"]["options"]["image_size"] == 224
    recipe = published["method"]["recipe"]
    expected = {"optimizer": "sgd", "momentum": 0.9, "decay": "poly", "lr": rate, "batch_size": 24, "ema_decay": 0.0}
    assert expected.items() <= recipe.items()
    assert recipe["steps"] == recipe["validate_every"] == 150 * math.ceil(2211 / 24)
    assert small["method"]["fidelity"] == "approximation"
    segmenter = build_segmenter(small, TaskSpec(1, ("a", "b"), (40, 56), 2))
    assert segmenter.model.objective.ce == ce
    score, mask = segmenter.predict(torch.rand(1, 1, 40, 56) * 2 - 1, [torch.Generator()])
    assert score.shape == mask.shape == (1, 2, 40, 56)
    assert 0 < score.min() < score.max() < 1
