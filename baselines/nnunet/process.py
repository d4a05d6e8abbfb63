"""Runs a stage of nnU-Net in a process of its own, which does not outlive this one."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRESS = "sdseg-progress"
WORKER = "baselines.nnunet.worker"
_ERROR = re.compile(r"^[\w.]*(Error|Exception|Interrupt)\b")
progress = logging.getLogger("progress")


def run_stage(stage: str, settings: dict[str, Any], folder: Path, log: Path) -> None:
    """Do a stage of `baselines.nnunet.worker` on the dataset in `folder`; its words go to the end of `log`.

    Raises ValueError, one line naming the log, where it fails.
    """
    command = [sys.executable, "-m", WORKER, stage, json.dumps(settings)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = _environment(stage, folder, settings["device"], settings["threads"])
    lines = [""]
    with (
        log.open("a", encoding="utf-8") as file,
        # In a session of its own: when its input ends, the worker ends itself and all that nnU-Net has started.
        subprocess.Popen(
            command, **pipes, text=True, encoding="utf-8", errors="replace", env=environment, start_new_session=True
        ) as worker,
    ):
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.startswith(PROGRESS):
                _, done, total = line.split()
                progress.info(f"nnU-Net {stage}", extra={"done": int(done), "total": int(total), "detail": ""})
                continue
            file.write(line)
            file.flush()
            lines = [*lines[-200:], *filter(None, [line.strip()])]
        status = worker.wait()
    if status:
        errors = [line for line in lines if _ERROR.match(line)]
        raise ValueError(f"{log}: nnU-Net's {stage} ended with {status}: {(errors or lines)[-1]}")


def _environment(stage: str, folder: Path, device: str, threads: int) -> dict[str, str]:
    paths = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    on_cpu = device == "cpu"
    own = {"OMP_NUM_THREADS": str(threads if on_cpu else 1), "MKL_NUM_THREADS": str(threads if on_cpu else 1)}
    # Processes beside the main one; what the user has set stays.
    defaults = {"nnUNet_def_n_proc": str(min(8, threads))}
    if on_cpu and stage == "train":
        defaults["nnUNet_n_proc_DA"] = "0"  # the network wants the processors; and planning cannot take a zero
    search = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return defaults | dict(os.environ) | paths | own | {"PYTHONPATH": search, "PYTHONUNBUFFERED": "1"}
