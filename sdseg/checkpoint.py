"""The state of a training on disk: what a killed run continues from."""

from __future__ import annotations

import json
import pickle
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


def save_training(workdir: Path, parts: dict[str, Any], state: TrainingState) -> None:
    """Write `training.pt` with the state of every part, and `log.jsonl`."""
    content = {name: part.state_dict() for name, part in parts.items()} | {"state": vars(state)}
    write_atomically(workdir / "training.pt", lambda path: torch.save(content, path))
    lines = "".join(json.dumps(row) + "\n" for row in state.log)
    write_atomically(workdir / "log.jsonl", lambda path: path.write_text(lines))


def load_training(workdir: Path, parts: dict[str, Any]) -> TrainingState | None:
    """Fill the parts from `training.pt`; None where there is no such file.

    Raises TrainingStateError naming a file that is damaged or of another model.
    """
    path = workdir / "training.pt"
    if not path.exists():
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        return TrainingState(**saved["state"])
    except (KeyError, TypeError, RuntimeError, ValueError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingStateError(
            f"{path}: truncated or of another model ({reason}); delete it to train from the start"
        ) from error
