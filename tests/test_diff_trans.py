"""Diff-Trans: what the paper's figures state of its structure, and answers that depend on their image alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from baselines.diff_trans.network import DiffTrans, DiffTransConfig
from baselines.diff_trans.segmenter import diff_trans_segmenter
from bench.command.check_method import check_method
from sdseg.training.segmenter import TrainedSegmenter

pytest.importorskip("timm")

SMALL: dict[str, Any] = {
    **{"stem": 8, "attention_patch": 8, "attention_width": 16, "attention_heads": 2},
    **{"width": 8, "heads": (1, 2, 2, 2), "windows": (2, 4)},
}
TASK = SimpleNamespace(channels=3, labels=("a", "b"), image_size=(64, 64))
RECIPE = {"steps": 2, "batch_size": 2, "lr": 1e-3, "validate_every": 2}


def build(**options: Any) -> TrainedSegmenter:
    recipe = {**RECIPE, **options.pop("recipe", {})}
    return diff_trans_segmenter(TASK, 0, "cpu", recipe, **{**SMALL, "steps": 2, **options})


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """Of one call: the network, and by module what went in and what came out."""
    torch.manual_seed(0)
    network = DiffTrans(DiffTransConfig(image_size=(64, 64), **SMALL)).eval()
    calls: dict[nn.Module, Any] = {}
    for module in network.modules():
        module.register_forward_hook(lambda m, inputs, output: calls.update({m: (inputs, output)}))
    with torch.no_grad():
        guide = network.guide(images())
        answer = network(guide, torch.randn(2, 1, 64, 64), torch.tensor([3, 900]))
    return {"network": network, "calls": calls, "guide": guide, "answer": answer}


def test_mask_tokens_attend_to_mask_and_image(seen: dict[str, Any]) -> None:
    (query, key, value), _ = seen["calls"][seen["network"].cross_attention.attention]
    assert query.shape == (2, 16, 16)  # 64 px are 4 x 4 patches
    assert torch.equal(key, torch.cat([query, seen["guide"]], dim=1))
    assert torch.equal(value, key)
    for tokens in (query, seen["guide"]):  # behind a layer norm
        torch.testing.assert_close(tokens.mean(dim=-1), torch.zeros(2, 16), rtol=0, atol=1e-5)


def test_branches_of_several_windows_are_summed_before_the_shifted_one(seen: dict[str, Any]) -> None:
    calls, module = seen["calls"], seen["network"].down[0]
    assert [branch.window_size for branch in module.branches] == [(2, 2), (4, 4)]
    assert all(branch.shift_size == (0, 0) for branch in module.branches)
    assert (module.shifted.window_size, module.shifted.shift_size) == ((4, 4), (2, 2))
    (shown,) = {id(calls[branch][0][0]) for branch in module.branches}  # all see the same tokens
    assert shown
    total = calls[module.branches[0]][1] + calls[module.branches[1]][1]
    assert torch.equal(calls[module.shifted][0][0], total)


def test_four_blocks_down_and_up_with_skips_that_are_added(seen: dict[str, Any]) -> None:
    calls, network = seen["calls"], seen["network"]
    blocks = [calls[merge][1] for merge in network.merge]
    assert [tuple(x.shape[1:]) for x in blocks] == [(8, 8, 16), (4, 4, 32), (2, 2, 64), (1, 1, 128)]
    assert torch.equal(calls[network.up[0]][0][0], blocks[3])
    for number, beside in zip((1, 2, 3), blocks[2::-1], strict=True):
        before = calls[network.expand[number - 1]][1]
        assert torch.equal(calls[network.up[number]][0][0], before + beside)
    assert calls[network.expand[3]][1].shape == (2, 16, 16, 8)
    assert seen["answer"].shape == (2, 1, 64, 64)


def test_every_mt_module_knows_the_time(seen: dict[str, Any]) -> None:
    for module in (*seen["network"].down, *seen["network"].up):
        _, output = seen["calls"][module.time]
        assert not torch.allclose(output[0], output[1])


def test_an_answer_depends_on_its_image_and_generator_alone() -> None:
    options = {"samples": 3, "eta": 1.0, "precondition": True}  # without it, rounding is amplified 157 times
    segmenter = build(**options)
    together = segmenter.predict(images(), generators(3, 4)).score
    assert together.shape == (2, 2, 64, 64)
    alone = [segmenter.predict(images()[i : i + 1], generators(3 + i)).score for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)
    apart = build(**options, max_batch=2).predict(images(), generators(3, 4)).score
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-4)
    assert not torch.allclose(alone[0], segmenter.predict(images()[:1], generators(4)).score, atol=1e-3)


def test_the_helps_for_small_networks_change_only_what_they_say() -> None:
    plain, helped = build().model, build(precondition=True, estimate_weight=2.0).model
    draws = plain.draw(2, (64, 64), torch.Generator().manual_seed(0))
    losses = [model.loss(images(), torch.zeros(2, 2, 64, 64), draws) for model in (plain, helped)]
    assert torch.equal(losses[0].total, losses[0].noise)
    torch.testing.assert_close(losses[1].total, losses[1].noise + 2 * losses[1].estimate)
    # Preconditioned, the noise's error is alpha_bar times that of the output.
    now = plain.schedule.alphas_cumprod[draws[0]].view(-1, 1, 1, 1).float()
    x_t = plain.schedule.add_noise(-torch.ones(2, 2, 64, 64), draws[1], draws[0])
    with torch.no_grad():
        output = helped.network(helped.network.guide(images()), x_t, draws[0])
        eps = helped.predict_eps(helped.network.guide(images()), x_t, draws[0])
    torch.testing.assert_close(eps, (1 - now).sqrt() * x_t + now.sqrt() * output)


def test_it_keeps_the_contract() -> None:
    small = [f"method.options.{key}={str(value).replace('(', '[').replace(')', ']')}" for key, value in SMALL.items()]
    outcomes = check_method("diff_trans", ["profile=smoke", "method.inference.steps=2", *small])
    assert [outcome for outcome in outcomes if not outcome.holds] == []
    segmenter = build(samples=3)
    assert (segmenter.evaluations, segmenter.samples) == (2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples=0"),
        ({"steps": 0}, "steps=0"),
        ({"recipe": {"crop": 32}}, "crop=32: Diff-Trans knows places"),
        ({"attention_patch": 5}, "image_size"),
        ({"heads": (3, 2, 2, 2)}, "divide by their heads"),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)
