"""Names for table rows: runs of one method that differ in more than the seed get rows of their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from bench.record import CAME_LATER, RunRecord, came_later
from reports.provenance import device, sampling, threads

# Names, places, and what is kept to look at, which change no number.
PLACES = {"name", "pretrained", "fidelity", "dataset.root", "dataset.manifest"}
PLACES |= {"printed_as", "method.recipe.keep", "method.recipe.keep_cases"}
FAITHFUL = ("library", "reimplemented", "external")
_LONGEST = 3


def content_hashes(record: RunRecord) -> dict[str, str]:
    """Hashes of what the data set is, without the facts of how it was scored."""
    return {name: value for name, value in record.data.items() if name in ("data", "split")}


def flag(record: RunRecord) -> str:
    """What a row is besides its name, " [approximation]" say; nothing where it is the method that it is named after."""
    method = record.config.get("method") or {}
    words = [record.fidelity] if record.fidelity not in FAITHFUL else []
    words += ["light encoder"] if (method.get("options") or {}).get("vision_encoder") == "light" else []
    words += ["light decoder"] if (method.get("inference") or {}).get("decoder") == "light" else []
    return f" [{', '.join(words)}]" if words else ""


def printed_as(record: RunRecord) -> str:
    """What the SDSeg paper calls the run's method; nothing where it has it not, or for a variant of it."""
    names = (record.config.get("method") or {}).get("printed_as")
    return str(names.get(record.method, "")) if isinstance(names, dict) else ""


def unflagged(name: str) -> str:
    """A row's name without its flag, for sentences that many names share."""
    return name.partition(" [")[0]


def variant_labels(records: Sequence[RunRecord]) -> list[str]:
    """Row names, one per record: the method, with the settings that tell its variants apart.

    Two records of a data set share a name when method, options, data, profile, draws and machine agree.
    """
    cells: dict[tuple[str, str], list[int]] = {}
    for index, record in enumerate(records):
        cells.setdefault((record.dataset, record.method), []).append(index)
    labels = [record.method for record in records]
    for members in cells.values():
        settings = [settings_of(records[index]) for index in members]
        differing = _differing(settings)
        if differing:
            for index, setting in zip(members, settings, strict=True):
                labels[index] = f"{records[index].method} ({_describe(setting, differing)})"
    return labels


def settings_of(record: RunRecord) -> dict[str, str]:
    """Everything that a row of a table stands for, but the names and places, as flat text by key."""
    config = {key: record.config.get(key) for key in ("method", "dataset")}
    facts: dict[str, Any] = {"profile": record.profile, "protocol": record.protocol, "draws": record.draws}
    facts |= {"data": content_hashes(record), "device": device(record), "threads": threads(record)}
    settings = _flatten({**config, **facts})
    if (chosen := sampling(record)) is not None:  # one word for what runs made earlier say otherwise
        settings.pop("method.inference.runs", None)
        settings["method.inference.samples"] = str(chosen[1])
    return settings


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        section = prefix.removesuffix(".").rpartition(".")[2]
        # Null is not set, as in older runs.
        if value is None or {key, f"{prefix}{key}"} & PLACES or came_later(section, key, value):
            continue
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = _text(value)
    return flat


def _differing(settings: list[dict[str, str]]) -> list[str]:
    keys = sorted({key for setting in settings for key in setting})
    return [key for key in keys if len({setting.get(key, "unset") for setting in settings}) > 1]


def _left_out(key: str) -> str:
    """What is meant where a setting is not there."""
    section, _, name = key.rpartition(".")
    value = CAME_LATER.get(section.rpartition(".")[2], {}).get(name)
    return "unset" if value is None else _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _describe(setting: dict[str, str], differing: list[str]) -> str:
    words = [f"{key.rsplit('.', 1)[-1]}={setting.get(key, _left_out(key))}" for key in differing]
    if len(words) <= _LONGEST and all(len(word) <= 24 for word in words):
        return ", ".join(words)
    # Too much differs to be spelled out: a fingerprint of the differing settings keeps the rows apart.
    text = json.dumps([setting.get(key, "unset") for key in differing])
    return f"{words[0][:24]}, … {hashlib.sha256(text.encode()).hexdigest()[:4]}"
