"""The state of a training on disk: what a killed run continues from."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sdseg.files import write_atomically


class TrainingStateError(ValueError):
    """A training state on disk that cannot be continued from."""


@dataclass
class TrainingState:
    """What a restart needs besides weights: where we are and what was best."""

    step: int = 0
    seconds: float = 0.0
    best_dice: float = -1.0
    best_step: int = 0
    log: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)  # weights of `best_step`, which must be this training's


def save_training(workdir: Path, parts: dict[str, Any], state: TrainingState) -> None:
    """Write `log.jsonl`, and `training.pt` with the state of every part."""
    lines = "".join(json.dumps(row) + "\n" for row in state.log)
    write_atomically(workdir / "log.jsonl", lambda path: path.write_text(lines, encoding="utf-8"))
    # Last: a training whose state is at its end writes no more.
    content = {name: part.state_dict() for name, part in parts.items()} | {"state": vars(state)}
    write_atomically(workdir / "training.pt", lambda path: torch.save(content, path))


def load_training(workdir: Path, parts: dict[str, Any]) -> TrainingState | None:
    """Fill the parts from `training.pt`; None where there is no such file.

    Raises TrainingStateError naming a file that is damaged or of another model.
    """
    path = workdir / "training.pt"
    if not path.exists():
        return None
    saved = read_checkpoint(path)
    with _refusing(path):
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        state = TrainingState(**saved["state"])
    if state.best_step and not state.best:  # earlier versions kept them in a file of their own
        state.best = read_checkpoint(workdir / "best.pt")["model"]
    return state


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What torch.save has written, every byte held against its checksum; raises TrainingStateError naming the file."""
    with _refusing(path):
        with zipfile.ZipFile(path) as archive:  # torch itself reads without looking at the checksums
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"checksum of {damaged}")
        return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingStateError(
            f"{path}: damaged, truncated or of another model ({reason}); delete it to train from the start"
        ) from error
