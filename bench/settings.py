"""Settings that no run can have, refused before one starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import InputError

DEVICES = ("auto", "cpu", "cuda")
ARCHITECTURES = ("tiny", "paper")
# Weights that may be a name on the hub: ORGANISATION/NAME.
_HUB_OPTIONS = ("autoencoder", "denoiser_weights")


def check_settings(config: Mapping[str, Any]) -> None:
    """Raise InputError naming a key whose value is unknown, or names a file that is not there."""
    for key, known in (("device", DEVICES), ("architecture", ARCHITECTURES)):
        if config[key] not in known:
            raise InputError(f"{key}={config[key]}: expected one of {', '.join(known)}")
    if not config["metrics"]:
        raise InputError("metrics=[]: name at least one")
    options = config["method"].get("options") or {}
    for prefix, section in (("", config), ("method.options.", options)):
        for key in _HUB_OPTIONS:
            value = section.get(key)
            if value is not None and not Path(value).exists() and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", value):
                raise InputError(f"{prefix}{key}={value}: no such file or folder")
