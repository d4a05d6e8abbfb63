"""A small network and data for the trainer's tests; as a program, what several processes train: `FOLDER`."""

from __future__ import annotations

import os
import socket
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdseg.training.recipe import Recipe
from sdseg.training.trainer import train

Losses = namedtuple("Losses", ["total"])
RECIPE = Recipe(steps=12, batch_size=4, lr=1e-2, validate_every=4, checkpoint_every=3, ema_decay=0.9)

TOY = {"steps": 8, "lr": 1e-2, "crop": 6, "max_grad_norm": 1.0}
TINY = {"steps": 2, "lr": 1e-3}
RUNS: dict[str, dict[str, Any]] = {
    "toy": TOY,
    "toy_parts": TOY | {"accumulate": 2},
    "toy_resumed": TOY,
    "tiny": TINY,
    "tiny_parts": TINY | {"accumulate": 2},
}


class Toy(nn.Module):
    """One convolution with dropout: enough to need every kind of randomness."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Dropout(dropout), nn.Conv2d(8, 1, 1))
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


def discs(count: int = 6, size: int = 32) -> list[dict]:
    """Two discs per item, one per label, and an image that shows them."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    made = []
    for i in range(count):
        places = ((10 + i, 10), (20, 12 + i))
        mask = torch.stack([(y - a) ** 2 + (x - b) ** 2 < (4 + i % 3) ** 2 for a, b in places])
        image = torch.cat([mask.float(), mask.any(0, keepdim=True).float()]) * 2 - 1
        made.append({"image": image, "mask": mask, "case_id": str(i)})
    return made


def tiny_sdseg(labels: int = 1) -> Any:
    """SDSeg of the architecture `tiny`; two labels bring a class embedding."""
    # Here, so that a process that trains the toy alone starts without them.
    from sdseg.architecture import ARCHITECTURES
    from sdseg.config import SDSegConfig
    from sdseg.model import SDSeg

    torch.manual_seed(0)
    return SDSeg(SDSegConfig(architecture=ARCHITECTURES["tiny"], labels=labels))


def train_one(name: str, folder: Path) -> dict[str, Any]:
    """Losses of every part of every step, final weights and facts of one run."""
    toy = name.startswith("toy")
    train_data, val_data = (items(10), items(3)) if toy else (discs(4, 16), discs(2, 16))
    recipe = Recipe(batch_size=4, ema_decay=0.9, validate_every=4, checkpoint_every=4, **RUNS[name])
    if name == "toy_resumed":
        begun = recipe.model_copy(update={"steps": 4})
        train(Toy(dropout=0.0), train_data, val_data, begun, folder / name, 0, "cpu")
    model = Toy(dropout=0.0) if toy else tiny_sdseg(labels=2)
    losses: list[float] = []
    forward = model.forward

    def recorded(*inputs: Any) -> Any:
        output = forward(*inputs)
        losses.append(float(output.total.detach()))
        return output

    model.forward = recorded
    facts = train(model, train_data, val_data, recipe, folder / name, 0, "cpu")
    return {"losses": losses, "weights": model.state_dict(), "facts": facts}


def main(folder: Path) -> None:
    """Every run but the plain SDSeg in two copies of this process; each one's results in a file of its own."""
    import sdseg.model  # noqa: F401 (once for both)

    torch.set_num_threads(1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    for rank in ("0", "1"):
        if os.fork() == 0:
            os.environ.update(group, RANK=rank, LOCAL_RANK=rank)
            results = {name: train_one(name, folder) for name in RUNS if name != "tiny"}
            torch.save(results, folder / f"result-{rank}.pt")
            torch.distributed.destroy_process_group()
            os._exit(0)
    sys.exit(sum(os.wait()[1] for _ in range(2)) > 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
