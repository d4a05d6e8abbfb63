"""What this machine has, what is missing, and how to get it."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from bench.device import resolve
from bench.metrics.lpips_trunk import ENVIRONMENT_VARIABLE, LpipsUnavailable, load_trunk
from bench.results.environment import cpu_model, device_facts, package_version

MINIMUM_PYTHON = (3, 11)
MINIMUM_TORCH = (2, 8)
MINIMUM_DISK_GIB = 5.0
MINIMUM_MEMORY_GIB = 4.0

OPTIONAL = {
    "hydra-joblib-launcher": ("parallel sweeps", "pip install -e '.[sweep]'"),
    "hydra-submitit-launcher": ("sweeps on SLURM", "pip install -e '.[sweep]'"),
    "hypothesis": ("the property tests", "pip install -e '.[dev]'"),
}


class Check(NamedTuple):
    """One look at the machine: `remedy` says what to do where `ok` is false."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def doctor_report(runs: Path = Path("runs")) -> list[Check]:
    """All checks, none of which changes anything or touches the network; `runs` is where results would go."""
    return [
        check_python(),
        check_torch(),
        check_device(),
        check_torchvision(),
        *check_packages(),
        check_lpips(),
        check_folder(runs),
        check_memory(),
        check_cores(),
    ]


def check_python() -> Check:
    """The interpreter's version."""
    wanted = ".".join(map(str, MINIMUM_PYTHON))
    here = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info[:2] >= MINIMUM_PYTHON
    return Check("Python", ok, here, f"install Python {wanted} or newer: make PYTHON=python{wanted}")


def check_torch() -> Check:
    """The version of torch."""
    ok = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) >= MINIMUM_TORCH
    return Check("torch", ok, torch.__version__, "pip install --constraint constraints.txt torch")


def check_device() -> Check:
    """What torch would compute on; the CPU is enough for the smoke and cpu profiles."""
    facts = device_facts(resolve())
    if facts["type"] == "cpu":
        return Check("device", True, f"CPU only ({facts['name']}): profiles smoke and cpu")
    return Check("device", True, f"cuda: {facts['name']}, {facts['memory_mib']} MiB, driver {facts['driver']}")


def check_torchvision() -> Check:
    """Whether torchvision imports: with its compiled operators, with declared ones, or not at all."""
    remedy = "pip install --constraint constraints.txt torchvision"
    if find_spec("torchvision") is None:
        return Check("torchvision", False, "missing: no LPIPS", remedy)
    from sdseg.torchvision_ops import declare_missing_operators

    declared = declare_missing_operators()
    try:
        import torchvision
    except Exception as error:
        return Check("torchvision", False, f"installed, does not import: {str(error).splitlines()[0]}", remedy)
    state = "operators declared, built for another torch (enough here)" if declared else "works"
    return Check("torchvision", True, f"{torchvision.__version__}: {state}")


def check_packages() -> list[Check]:
    """Required packages in one line, then every optional one."""
    here = package_version("sdseg-bench") is not None  # in a bare checkout nothing says what it requires
    lines = (requires("sdseg-bench") or []) if here else ["sdseg-bench"]
    required = [re.split(r"[<>=!~;\[ ]", line)[0] for line in lines if "extra ==" not in line]
    missing = [name for name in required if package_version(name) is None]
    detail = f"missing: {', '.join(missing)}" if missing else f"all {len(required)} present"
    checks = [Check("packages", not missing, detail, "pip install -e .")]
    for name, (purpose, remedy) in OPTIONAL.items():
        version = package_version(name)
        checks.append(Check(name, version is not None, version or f"missing (optional, for {purpose})", remedy))
    return checks


def check_lpips() -> Check:
    """Whether the true AlexNet trunk is on this machine; nothing is downloaded."""
    remedy = f"set {ENVIRONMENT_VARIABLE} to the weights, or let a run with network fetch them"
    try:
        trunk = load_trunk(download=False)
    except LpipsUnavailable as error:
        return Check("LPIPS trunk", False, f"the column stays empty: {error}", remedy)
    return Check("LPIPS trunk", True, f"verified: {trunk.source}")


def check_folder(runs: Path) -> Check:
    """Whether results can be written, and how much room there is."""
    folder = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check("results folder", False, f"{runs}: not writable ({error.strerror})", "choose another folder")
    free = shutil.disk_usage(folder).free / 2**30
    detail, remedy = f"{runs}: writable, {free:.1f} GiB free", f"make room: {MINIMUM_DISK_GIB:g} GiB are advisable"
    return Check("results folder", free >= MINIMUM_DISK_GIB, detail, remedy)


def check_memory() -> Check:
    """The machine's memory."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total / 2**30, memory.available / 2**30
    remedy = f"close other programs: {MINIMUM_MEMORY_GIB:g} GiB free are advisable"
    return Check("memory", free >= MINIMUM_MEMORY_GIB, f"{total:.1f} GiB, {free:.1f} GiB free", remedy)


def check_cores() -> Check:
    """Processor, cores and how busy they are; timings on a busy machine mean little."""
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    detail = f"{cores} x {cpu_model()}, load {load:.2f}, torch uses {torch.get_num_threads()}"
    return Check("cores", load <= cores, detail, "wait for other work to end before timing anything")
