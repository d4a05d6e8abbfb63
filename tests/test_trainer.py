"""The training loop: seeded, selectable, resumable to the bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from torch import nn

from sdseg.batches import StepSampler, flip, random_crop, step_generator
from sdseg.ema import Ema
from sdseg.recipe import Recipe
from sdseg.trainer import TrainingStateError, train

Losses = namedtuple("Losses", ["total"])
RECIPE = Recipe(steps=12, batch_size=4, lr=1e-2, validate_every=4, checkpoint_every=3, ema_decay=0.9)


class Toy(nn.Module):
    """One convolution with dropout: enough to need every kind of randomness."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Dropout(0.5), nn.Conv2d(8, 1, 1))
        self.trained = self.averaged = self.layer
        self.stop_at: int | None = None
        self.calls = 0

    def parameter_groups(self) -> list[dict]:
        return [{"params": list(self.parameters()), "lr_scale": 1.0}]

    def prepare(self, masks, generator: torch.Generator) -> None:
        """Nothing."""

    def draw(self, count: int, size, generator: torch.Generator) -> tuple[torch.Tensor]:
        return (torch.randn(count, 3, *size, generator=generator),)

    def forward(self, image, mask, draws, key=None):
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        (noise,) = draws
        return Losses((self.layer(image + 0.1 * noise) - mask.float()).abs().mean())

    def predict(self, image, generators):
        score = self.layer(image).sigmoid()
        return namedtuple("P", ["score", "mask"])(score, score > 0.5)


def items(count: int = 10) -> list[dict]:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(count, 3, 8, 8, generator=generator)
    return [{"image": image, "mask": image[:1] > 0.5, "case_id": str(i)} for i, image in enumerate(images)]


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
        "from tests.test_trainer import *\n"
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
    with pytest.raises(TrainingStateError, match=r"training\.pt: truncated"):
        train(Toy(), items(), items(3), RECIPE, tmp_path, 0, "cpu")


def test_best_validation_weights_are_kept(tmp_path: Path) -> None:
    model = Toy()
    facts = train(model, items(), items(3), RECIPE, tmp_path, 0, "cpu")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    dice = {row["step"]: row["val_dice"] for row in rows if "val_dice" in row}
    assert facts["val_dice"] == max(dice.values())
    assert dice[facts["selected_step"]] == facts["val_dice"]


def test_every_epoch_visits_every_item_once() -> None:
    flat = [i for batch in StepSampler(10, 4, 0, 0, 5) for i in batch]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]
    assert list(StepSampler(10, 4, 0, 3, 5)) == list(StepSampler(10, 4, 0, 0, 5))[3:]


def test_flips_keep_image_and_mask_together() -> None:
    image = torch.rand(16, 1, 6, 6)
    mask = image > 0.5
    flip(image, mask, RECIPE, step_generator(0, 0))
    assert torch.equal(mask, image > 0.5)


def test_crops_are_of_one_place() -> None:
    image = torch.rand(8, 3, 12, 10)
    cut, mask = random_crop(image, image[:, :1] > 0.5, 6, step_generator(0, 0))
    assert cut.shape == (8, 3, 6, 6)
    assert torch.equal(mask, cut[:, :1] > 0.5)
    whole, _ = random_crop(image, image[:, :1] > 0.5, 99, step_generator(0, 0))
    assert torch.equal(whole, image)


def test_ema_follows_the_released_rule() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0.0)
    ema = Ema(layer, 0.9999)
    layer.weight.data.fill_(1.0)
    ema.update()  # decay (1 + 1) / (10 + 1)
    assert float(ema.shadow[0]) == pytest.approx(9 / 11)
    with ema.applied():
        assert float(layer.weight) == pytest.approx(9 / 11)
    assert float(layer.weight) == 1.0


@pytest.mark.parametrize(("step", "factor"), [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.5), (99, 0.0003046)])
def test_warm_up_then_cosine(step: int, factor: float) -> None:
    recipe = Recipe(steps=100, batch_size=1, lr=1, warmup=10, decay="cosine")
    assert recipe.lr_factor(step) == pytest.approx(factor, rel=1e-3)
