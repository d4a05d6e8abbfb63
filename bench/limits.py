"""Values of the configuration that no run can have: refused by their key before anything runs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.declared import file_keys, named
from bench.errors import InputError

DEVICES = ("auto", "cpu", "cuda")
# By the last word of a key; a list's numbers stand under the list's. Those of recipes are checked by their own model.
_POSITIVE = frozenset(
    (
        *("draws", "image_size", "predict_batch_size", "threads", "rounds", "batch_sizes", "seconds"),
        *("steps", "features", "width", "channel_mult", "blocks", "samples", "max_batch"),
        *("norm_groups", "attention_px", "attention_window", "feature_size", "window", "divisor", "sw_batch_size"),
        *("hidden", "mlp", "heads", "layers", "units", "embed_dim", "depths"),
        *("channels", "shape", "input_size", "spacing_mm", "gpu_memory_gb", "tile_step_size"),
    )
)
_BELOW_ONE = frozenset(("overlap", "ema_decay"))
_SHARES = frozenset(("split", "highway_dropout", "absent_share"))
_SEEDS = frozenset(("seed", "seeds"))
# Values of pixels, ids and places, which may lie below 0.
_SIGNED = frozenset(("intensity", "background", "ignore", "labels", "level"))
_OURS = ("sdseg.", "baselines.", "bench.")


def check_values(config: dict[str, Any]) -> None:
    """InputError naming the first key whose value is unknown, out of range, or a file that is not there."""
    if config["device"] not in DEVICES:
        raise InputError(f"device={config['device']}: expected one of {', '.join(DEVICES)}")
    if not config["metrics"]:
        raise InputError("metrics=[]: name at least one")
    check_numbers(config)
    for key, _, value in named(config["method"], file_keys("method", config["method"]), "method"):
        # A bare word may be a name that the method knows, ORGANISATION/NAME one on the hub.
        if os.sep in value and not Path(value).exists() and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", value):
            raise InputError(f"{key}={value}: no such file or folder")


def check_numbers(config: dict[str, Any]) -> None:
    """InputError naming the first key whose number is out of range; options of outside classes are their own affair."""
    for section, content in config.items():
        if section == "gate":  # checks its own
            continue
        if section in ("method", "dataset") and not str((content or {}).get("target", "")).startswith(_OURS):
            continue
        for key, name, value in _numbers(content, section, section):
            if (wanted := _wanted(name, value)) is not None:
                raise InputError(f"{key}={value}: expected {wanted}")


def _numbers(content: Any, key: str, name: str) -> Iterator[tuple[str, str, float]]:
    """Yield (key, its last word, number) of everything inside."""
    if isinstance(content, dict):
        for inner, value in content.items():
            yield from () if inner in _SIGNED else _numbers(value, f"{key}.{inner}", str(inner))
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, key, name)
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        yield key, name, content


def _wanted(name: str, value: float) -> str | None:
    """What a number should have been, None where it is."""
    if not math.isfinite(value):
        return "a finite number"
    if name in _SEEDS:
        return None if 0 <= value < 2**63 else "a whole number from 0 to 2^63 - 1"
    if name in _BELOW_ONE:
        return None if 0 <= value < 1 else "a share from 0 to below 1"
    if name in _SHARES:
        return None if 0 <= value <= 1 else "a share from 0 to 1"
    if name in _POSITIVE:
        return None if value > 0 else "a number above 0"
    return None if value >= 0 else "a number from 0 on"
