"""A trained run as an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import InputError
from bench.importing import import_by_name
from bench.results.store import RunFolder
from bench.runner import load_segmenter, set_up_torch
from bench.types import TaskSpec


def export_run(run: Path, out: Path, trust: bool = False, overrides: Sequence[str] = ()) -> Any:
    """Write the model of a run to `out` and say how the file agrees with it; raises InputError."""
    folder = RunFolder(run)
    config = folder.read_config(trust, overrides)
    if folder.fit_facts() is None:
        raise InputError(f"{folder.model}: not fitted yet; use sdseg fit first")
    set_up_torch(config["threads"])
    task = TaskSpec.of(config["task"])
    try:
        return import_by_name("sdseg.fast.onnx_export.export_segmenter")(
            load_segmenter(config, task, folder), task, out
        )
    except ValueError as error:
        raise InputError(str(error).splitlines()[0]) from error
