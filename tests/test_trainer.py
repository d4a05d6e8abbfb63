"""The training loop: seeded, selectable, resumable to the bit."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from bench.config import compose_config
from sdseg.training.batches import training_batches
from sdseg.training.ema import Ema
from sdseg.training.recipe import Recipe
from sdseg.training.selection import validation_dice
from sdseg.training.trainer import TrainingLoop, TrainingStateError, train
from tests.training_fixtures import RECIPE, Toy, discs, items, tiny_sdseg

DISCS = discs(2, 16)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, dict[str, Any]]:
    """Folder, weights and facts of a training that nothing interrupts."""
    model, folder = Toy(), tmp_path_factory.mktemp("whole")
    facts = train(model, items(), items(3), RECIPE, folder, 0, "cpu")
    return folder, weights(model), facts


# Behind a checkpoint without a validation, and behind one that knows the best so far.
@pytest.mark.parametrize("stop_at", [5, 12])
def test_interrupted_run_ends_bit_identical(tmp_path: Path, whole: Any, stop_at: int) -> None:
    folder, expected, facts = whole
    torn, again = Toy(), Toy()
    torn.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        train(torn, items(), items(3), RECIPE, tmp_path, 0, "cpu")
    resumed = train(again, items(), items(3), RECIPE, tmp_path, 0, "cpu")
    assert torch.equal(weights(again), expected)
    assert facts["val_dice"] == resumed["val_dice"]
    logs = [(path / "log.jsonl").read_text() for path in (folder, tmp_path)]
    assert logs[0] == logs[1]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 12, 12]


def test_a_flipped_bit_of_a_state_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    begun, ended = (RECIPE.model_copy(update={"steps": steps}) for steps in (4, 8))
    train(Toy(), items(), items(3), begun, tmp_path, 0, "cpu")
    state, uninterrupted, rng = tmp_path / "training.pt", Toy(), np.random.default_rng(0)
    content = state.read_bytes()
    train(uninterrupted, items(), items(3), ended, tmp_path, 0, "cpu")
    messages = []
    for place in rng.integers(8 * len(content), size=30):
        torn, resumed = bytearray(content), Toy()
        torn[place // 8] ^= 1 << place % 8
        state.write_bytes(torn)
        try:
            train(resumed, items(), items(3), ended, tmp_path, 0, "cpu")
        except TrainingStateError as error:
            messages.append(str(error))
        else:
            assert torch.equal(weights(resumed), weights(uninterrupted))
    assert len(messages) > 15  # the rest fell on padding
    assert all(str(state) in message for message in messages)
    state.write_bytes(content[:500])
    with pytest.raises(TrainingStateError, match=r"training\.pt: damaged, truncated"):
        train(Toy(), items(), items(3), ended, tmp_path, 0, "cpu")


def test_the_best_weights_are_those_of_the_state_that_names_them(tmp_path: Path, whole: Any) -> None:
    folder, expected, _ = whole
    other, resumed, earlier = (Toy() for _ in range(3))
    train(other, items(), items(3), RECIPE, tmp_path / "other", 1, "cpu")
    assert not torch.equal(weights(other), expected)  # another seed
    # What a second process on the same folder left.
    shutil.copytree(folder, tmp_path / "whole")
    torch.save({"model": other.state_dict()}, tmp_path / "whole" / "best.pt")
    train(resumed, items(), items(3), RECIPE, tmp_path / "whole", 0, "cpu")
    assert torch.equal(weights(resumed), expected)
    # Earlier versions kept the best in a file of its own.
    saved = torch.load(folder / "training.pt", weights_only=True)
    torch.save({"model": saved["state"].pop("best")}, tmp_path / "whole" / "best.pt")
    torch.save(saved, tmp_path / "whole" / "training.pt")
    train(earlier, items(), items(3), RECIPE, tmp_path / "whole", 0, "cpu")
    assert torch.equal(weights(earlier), expected)


def test_best_validation_weights_are_kept(whole: Any) -> None:
    folder, _, facts = whole
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    dice = {row["step"]: row["val_dice"] for row in rows if "val_dice" in row}
    assert facts["val_dice"] == max(dice.values())
    assert dice[facts["selected_step"]] == facts["val_dice"]


def test_validation_counts_no_label_that_neither_mask_nor_prediction_shows() -> None:
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0, :2] = True
    echo = SimpleNamespace(predict=lambda image, _: SimpleNamespace(mask=image > 0))
    empty, shown = ({"image": x.float(), "mask": x} for x in (torch.zeros_like(mask), mask))
    assert validation_dice(echo, [shown, empty], 2, 0, Accelerator(cpu=True)) == 1
    assert validation_dice(echo, [empty], 2, 0, Accelerator(cpu=True)) == 0


def test_accumulated_parts_give_the_mean_gradient_and_every_group_has_its_rate(tmp_path: Path) -> None:
    gradients = []
    for parts in (1, 2):
        model, recipe = Toy(dropout=0.0), RECIPE.model_copy(update={"accumulate": parts})
        first, last = model.layer[0], model.layer[2]
        before = last.weight.detach().clone()
        model.parameter_groups = lambda first=first, last=last: [
            {"params": list(layer.parameters()), "lr_scale": scale} for layer, scale in ((first, 1.0), (last, 100.0))
        ]
        loop = TrainingLoop(model, items(), recipe, tmp_path / str(parts), 0, "cpu")
        loop.step(next(training_batches(items(), recipe, 0, 0)))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        # AdamW's first step is as long as the rate.
        assert float((last.weight - before).detach().abs().max()) == pytest.approx(100 * RECIPE.lr, rel=0.1)
    torch.testing.assert_close(*gradients)


def test_ema_follows_the_released_rule() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0.0)
    ema = Ema(layer, 0.9999)
    layer.weight.data.fill_(1.0)
    ema.update()  # decay (1 + 1) / (10 + 1)
    assert float(ema.shadow[0]) == pytest.approx(9 / 11)
    with ema.applied():
        assert layer.weight.item() == pytest.approx(9 / 11)
    assert layer.weight.item() == 1.0


@pytest.mark.parametrize(("step", "factor"), [(0, 1e-6), (9, 0.9), (10, 1.0), (55, 0.5), (99, 0.0003046)])
def test_warm_up_then_cosine(step: int, factor: float) -> None:
    recipe = Recipe(steps=100, batch_size=1, lr=1, warmup=10, decay="cosine")
    assert recipe.lr_factor(step) == pytest.approx(factor, rel=1e-3)


@pytest.mark.parametrize(("step", "factor"), [(4, 0.8), (5, 1.0), (6, 1.0), (7, 0.9**0.9), (14, 0.2**0.9)])
def test_poly_lags_one_step_behind_and_is_counted_after_the_warm_up(step: int, factor: float) -> None:
    recipe = Recipe(steps=15, batch_size=1, lr=1, warmup=5, decay="poly")
    assert recipe.lr_factor(step) == pytest.approx(factor, rel=1e-6)


def test_sgd_with_momentum_by_hand(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.1, "warmup": 0})
    model = Toy(dropout=0.0)
    loop, weight = TrainingLoop(model, items(), recipe, tmp_path, 0, "cpu"), model.layer[0].weight
    velocity = torch.zeros_like(weight)
    for batch in islice(training_batches(items(), recipe, 0, 0), 3):
        before = weight.detach().clone()
        loop.step(batch)
        velocity = 0.5 * velocity + weight.grad + 0.1 * before
        torch.testing.assert_close(weight.detach(), before - recipe.lr * velocity)


def test_interrupted_sdseg_with_cached_latents_ends_bit_identical(tmp_path: Path) -> None:
    recipe = Recipe(steps=3, batch_size=2, lr=1e-3, validate_every=3, checkpoint_every=1, ema_decay=0.9)
    uninterrupted, torn, again = (tiny_sdseg(labels=2) for _ in range(3))
    train(uninterrupted, DISCS, DISCS, recipe, tmp_path / "whole", 0, "cpu")
    forward, calls = torn.forward, []

    def stopping(*inputs):
        calls.append(inputs)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(*inputs)

    torn.forward = stopping
    with pytest.raises(KeyboardInterrupt):
        train(torn, DISCS, DISCS, recipe, tmp_path / "torn", 0, "cpu")
    train(again, DISCS, DISCS, recipe, tmp_path / "torn", 0, "cpu")
    assert torch.equal(weights(uninterrupted), weights(again))


CHEAP = Recipe(steps=2, batch_size=2, lr=1e-3, validate_every=2, ema_decay=0.9)


@pytest.fixture(scope="module")
def plainly(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, torch.Tensor]:
    """Last loss and weights of a short training of SDSeg without any option."""
    return loss_and_weights(CHEAP.model_copy(update={"cache_latents": False}), tmp_path_factory.mktemp("plain"))


def loss_and_weights(recipe: Recipe, folder: Path) -> tuple[float, torch.Tensor]:
    model, data = tiny_sdseg(), [item | {"mask": item["mask"][:1]} for item in DISCS]
    train(model, data, data, recipe, folder, 0, "cpu")
    assert model.cache is None
    assert not any("forward" in vars(module) for module in model.modules())
    return json.loads((folder / "log.jsonl").read_text().splitlines()[0])["total"], weights(model)


@pytest.mark.parametrize("option", ["cache_latents", "channels_last", "checkpoint_activations"])
def test_a_cheaper_step_learns_the_same(tmp_path: Path, plainly: tuple[float, torch.Tensor], option: str) -> None:
    off = CHEAP.model_copy(update={"cache_latents": False})
    loss, found = loss_and_weights(off.model_copy(update={option: True}), tmp_path)
    assert loss == pytest.approx(plainly[0], rel=1e-4)
    torch.testing.assert_close(found, plainly[1], rtol=0, atol=5e-5)


def test_recomputed_blocks_are_run_twice(tmp_path: Path) -> None:
    calls = []
    for again in (False, True):
        model, seen = tiny_sdseg(), []
        block = model.vision_encoder.encoder.down_blocks[0].resnets[0].conv1
        block.register_forward_hook(lambda *_, seen=seen: seen.append(torch.is_grad_enabled()))
        recipe = CHEAP.model_copy(update={"steps": 1, "checkpoint_activations": again})
        data = [item | {"mask": item["mask"][:1]} for item in DISCS]
        train(model, data, data[:1], recipe, tmp_path / str(again), 0, "cpu")
        calls.append(sum(seen))
    assert calls == [1, 2]


def test_compile_wraps_the_trained_part_and_keeps_its_names(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, model = [], Toy()
    monkeypatch.setattr(torch, "compile", lambda function: lambda *inputs: calls.append(1) or function(*inputs))
    train(model, items(), items(3), RECIPE.model_copy(update={"compile": True}), tmp_path, 0, "cpu")
    assert len(calls) >= RECIPE.steps
    assert torch.equal(weights(model), whole[1])
    saved = torch.load(tmp_path / "training.pt", weights_only=True)
    assert saved["state"]["best"].keys() == model.state_dict().keys()


def test_bf16_trains_near_float32_and_leaves_float32_weights(tmp_path: Path) -> None:
    models = [Toy(dropout=0.0), Toy(dropout=0.0)]
    for model, precision in zip(models, ("no", "bf16"), strict=True):
        recipe = RECIPE.model_copy(update={"precision": precision})
        train(model, items(), items(3), recipe, tmp_path / precision, 0, "cpu")
    assert weights(models[1]).dtype == torch.float32
    assert not torch.equal(weights(models[0]), weights(models[1]))
    torch.testing.assert_close(weights(models[0]), weights(models[1]), rtol=0, atol=0.02)


def test_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"accumulate": 3})
    with pytest.raises(ValueError, match="batch_size=4 does not divide by 1 processes x accumulate=3"):
        train(Toy(), items(), items(3), recipe, tmp_path, 0, "cpu")


def test_average_starts_from_what_prepare_loaded(tmp_path: Path) -> None:
    class Pretrained(Toy):
        def prepare(self, masks, generator: torch.Generator) -> None:
            for parameter in self.parameters():
                torch.nn.init.constant_(parameter, 3.0)

    model = Pretrained()
    recipe = RECIPE.model_copy(update={"steps": 1, "lr": 1e-9})
    train(model, items(), items(3), recipe, tmp_path, 0, "cpu")
    assert weights(model) == pytest.approx(3.0, abs=1e-5)


def test_recipe_paper_is_the_paper_profiles_and_selectable_over_any_profile() -> None:
    paper = compose_config(["profile=paper"])["train"]
    assert compose_config(["profile=smoke", "recipe=paper"])["train"] == paper
    recipe = Recipe.model_validate(paper)
    assert recipe == Recipe(
        steps=100_000, batch_size=4, lr=4e-5, warmup=10_000, checkpoint_every=2000, cache_latents=False
    )
    fast = Recipe.model_validate(compose_config(["recipe=fast", "train.steps=7"])["train"])
    assert (fast.steps, fast.precision, fast.cache_latents) == (7, "bf16", True)


def test_options_of_the_harness_are_those_of_the_recipe() -> None:
    assert set(compose_config([])["train"]) == set(Recipe.model_fields)
