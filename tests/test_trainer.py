"""The training loop: seeded, selectable, resumable to the bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.config import compose_config
from sdseg.training.ema import Ema
from sdseg.training.recipe import Recipe
from sdseg.training.trainer import TrainingStateError, train
from tests.training_fixtures import RECIPE, Toy, discs, items, tiny_sdseg


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_same_seed_same_weights_other_seed_other_weights(tmp_path: Path) -> None:
    models = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        models.append(Toy())
        train(models[-1], items(), items(3), RECIPE, tmp_path / name, seed, "cpu")
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert not torch.equal(weights(models[0]), weights(models[2]))


@pytest.mark.parametrize("stop_at", [2, 5, 12])
def test_interrupted_run_ends_bit_identical(tmp_path: Path, stop_at: int) -> None:
    whole, torn = Toy(), Toy()
    facts = train(whole, items(), items(3), RECIPE, tmp_path / "whole", 0, "cpu")
    torn.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        train(torn, items(), items(3), RECIPE, tmp_path / "torn", 0, "cpu")
    again = Toy()
    resumed = train(again, items(), items(3), RECIPE, tmp_path / "torn", 0, "cpu")
    assert torch.equal(weights(whole), weights(again))
    assert facts["val_dice"] == resumed["val_dice"]
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "torn")]
    assert logs[0] == logs[1]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == [4, 8, 10, 12, 12]


def test_kill_9_in_the_middle_of_training(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path[:0] = [sys.argv[2]]\n"
        "from pathlib import Path\n"
        "from tests.training_fixtures import *\n"
        "torch.set_num_threads(1)\n"
        "train(Toy(), items(), items(3), RECIPE.model_copy(update={'steps': 100_000}), Path(sys.argv[1]), 0, 'cpu')\n"
    )
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed"), root])
    state = tmp_path / "killed" / "training.pt"
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = torch.load(state, weights_only=True)["state"]["step"]
    recipe = RECIPE.model_copy(update={"steps": saved + 7})
    resumed, whole = Toy(), Toy()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(resumed, items(), items(3), recipe, tmp_path / "killed", 0, "cpu")
        train(whole, items(), items(3), recipe, tmp_path / "whole", 0, "cpu")
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(weights(resumed), weights(whole))


def test_truncated_state_is_named(tmp_path: Path) -> None:
    train(Toy(), items(), items(3), RECIPE, tmp_path, 0, "cpu")
    state = tmp_path / "training.pt"
    state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(TrainingStateError, match=r"training\.pt: damaged, truncated"):
        train(Toy(), items(), items(3), RECIPE, tmp_path, 0, "cpu")


def test_a_flipped_bit_of_a_state_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    begun, ended = (RECIPE.model_copy(update={"steps": steps}) for steps in (4, 8))
    train(Toy(), items(), items(3), begun, tmp_path, 0, "cpu")
    state, whole, rng = tmp_path / "training.pt", Toy(), np.random.default_rng(0)
    content = state.read_bytes()
    train(whole, items(), items(3), ended, tmp_path, 0, "cpu")
    messages = []
    for place in rng.integers(8 * len(content), size=100):
        torn, resumed = bytearray(content), Toy()
        torn[place // 8] ^= 1 << place % 8
        state.write_bytes(torn)
        try:
            train(resumed, items(), items(3), ended, tmp_path, 0, "cpu")
        except TrainingStateError as error:
            messages.append(str(error))
        else:
            assert torch.equal(weights(resumed), weights(whole))
    assert len(messages) > 50  # the rest fell on padding
    assert all(str(state) in message for message in messages)


def test_the_best_weights_are_those_of_the_state_that_names_them(tmp_path: Path) -> None:
    whole, other, resumed = (Toy() for _ in range(3))
    train(whole, items(), items(3), RECIPE, tmp_path / "whole", 0, "cpu")
    train(other, items(), items(3), RECIPE, tmp_path / "other", 1, "cpu")
    # What a second process on the same folder, or an earlier version, left.
    torch.save({"model": other.state_dict()}, tmp_path / "whole" / "best.pt")
    train(resumed, items(), items(3), RECIPE, tmp_path / "whole", 0, "cpu")
    assert torch.equal(weights(resumed), weights(whole))


def test_a_state_of_an_earlier_version_goes_on_with_its_best_file(tmp_path: Path) -> None:
    whole, resumed = Toy(), Toy()
    train(whole, items(), items(3), RECIPE, tmp_path, 0, "cpu")
    saved = torch.load(tmp_path / "training.pt", weights_only=True)
    torch.save({"model": saved["state"].pop("best")}, tmp_path / "best.pt")
    torch.save(saved, tmp_path / "training.pt")
    train(resumed, items(), items(3), RECIPE, tmp_path, 0, "cpu")
    assert torch.equal(weights(resumed), weights(whole))


def test_best_validation_weights_are_kept(tmp_path: Path) -> None:
    model = Toy()
    facts = train(model, items(), items(3), RECIPE, tmp_path, 0, "cpu")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    dice = {row["step"]: row["val_dice"] for row in rows if "val_dice" in row}
    assert facts["val_dice"] == max(dice.values())
    assert dice[facts["selected_step"]] == facts["val_dice"]


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


def test_interrupted_sdseg_with_cached_latents_ends_bit_identical(tmp_path: Path) -> None:
    recipe = Recipe(steps=6, batch_size=3, lr=1e-3, validate_every=6, checkpoint_every=3, ema_decay=0.9)
    whole, torn, again = (tiny_sdseg(labels=2) for _ in range(3))
    train(whole, discs(), discs(2), recipe, tmp_path / "whole", 0, "cpu")
    forward, calls = torn.forward, []

    def stopping(*inputs):
        calls.append(inputs)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return forward(*inputs)

    torn.forward = stopping
    with pytest.raises(KeyboardInterrupt):
        train(torn, discs(), discs(2), recipe, tmp_path / "torn", 0, "cpu")
    train(again, discs(), discs(2), recipe, tmp_path / "torn", 0, "cpu")
    assert torch.equal(weights(whole), weights(again))


CHEAP = Recipe(steps=3, batch_size=4, lr=1e-3, validate_every=3, ema_decay=0.9)


@pytest.fixture(scope="module")
def plainly(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, torch.Tensor]:
    """Last loss and weights of a short training of SDSeg without any option."""
    return loss_and_weights(CHEAP.model_copy(update={"cache_latents": False}), tmp_path_factory.mktemp("plain"))


def loss_and_weights(recipe: Recipe, folder: Path) -> tuple[float, torch.Tensor]:
    model, data = tiny_sdseg(), [item | {"mask": item["mask"][:1]} for item in discs()]
    train(model, data, data[:2], recipe, folder, 0, "cpu")
    assert model.cache is None
    assert not any("forward" in vars(module) for module in model.modules())
    return json.loads((folder / "log.jsonl").read_text().splitlines()[0])["total"], weights(model)


@pytest.mark.parametrize("option", ["cache_latents", "channels_last", "checkpoint_activations", "accumulate"])
def test_a_cheaper_step_learns_the_same(tmp_path: Path, plainly: tuple[float, torch.Tensor], option: str) -> None:
    off = CHEAP.model_copy(update={"cache_latents": False})
    loss, found = loss_and_weights(off.model_copy(update={option: 2 if option == "accumulate" else True}), tmp_path)
    assert loss == pytest.approx(plainly[0], rel=1e-4)
    torch.testing.assert_close(found, plainly[1], rtol=0, atol=5e-5)


def test_recomputed_blocks_are_run_twice(tmp_path: Path) -> None:
    calls = []
    for again in (False, True):
        model, seen = tiny_sdseg(), []
        block = model.vision_encoder.encoder.down_blocks[0].resnets[0].conv1
        block.register_forward_hook(lambda *_, seen=seen: seen.append(torch.is_grad_enabled()))
        recipe = CHEAP.model_copy(update={"steps": 1, "checkpoint_activations": again})
        data = [item | {"mask": item["mask"][:1]} for item in discs()]
        train(model, data, data[:1], recipe, tmp_path / str(again), 0, "cpu")
        calls.append(sum(seen))
    assert calls == [1, 2]


def test_compile_wraps_the_trained_part_and_keeps_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compiled(function):
        def call(*inputs):
            calls.append(function)
            return function(*inputs)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    plain, model = Toy(), Toy()
    train(plain, items(), items(3), RECIPE, tmp_path / "plain", 0, "cpu")
    assert not calls
    train(model, items(), items(3), RECIPE.model_copy(update={"compile": True}), tmp_path / "compiled", 0, "cpu")
    assert len(calls) >= RECIPE.steps
    assert torch.equal(weights(plain), weights(model))
    saved = torch.load(tmp_path / "compiled" / "training.pt", weights_only=True)
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
