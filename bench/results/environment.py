"""The facts of machine, software and revision that a number depends on, ready for the record."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "sdseg-bench",
    "torch",
    "torchvision",
    "diffusers",
    "monai",
    "lpips",
    "torchmetrics",
    "numpy",
    "scipy",
    "accelerate",
    "hydra-core",
    "pandas",
    "pytest-benchmark",
)

_ROOT = Path(__file__).resolve().parents[2]


def environment_facts(device: dict[str, Any] | None = None) -> dict[str, Any]:
    """Facts for the record, JSON-able; what cannot be known is None. Names no host and no folder.

    `device` is what `device_facts` said where the numbers were made; the CPU of this machine without it.
    """
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: package_version(name) for name in PACKAGES},
        "git": git_facts(_ROOT),
        "device": device or device_facts("cpu"),
        "cpu": cpu_facts(),
        "torch": {
            "threads": torch.get_num_threads(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        },
    }


def machine(environment: dict[str, Any]) -> str:
    """Device and threads of `environment_facts`: what times and memory may be compared within."""
    return f"{environment.get('device', {}).get('name')}, {environment.get('torch', {}).get('threads')} threads"


def package_version(name: str) -> str | None:
    """The installed version of a distribution, None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_facts(root: Path) -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout at `root`, None where `root` is not the top of one.

    Dirty is a file that differs from the commit, and one that git neither tracks nor ignores.
    """
    top = _output("git", "-C", str(root), "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return None
    return _state(root)


def folder_revision(folder: Path) -> str | None:
    """The revision of a folder that lies in somebody's checkout, with `+changes` where it is dirty; None outside."""
    facts = _state(folder)
    return facts["commit"] and facts["commit"] + ("" if facts["dirty"] is False else "+changes")


def _state(folder: Path) -> dict[str, Any]:
    status = _output("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=normal", "--", ".")
    return {
        "commit": _output("git", "-C", str(folder), "rev-parse", "--verify", "HEAD"),
        "dirty": None if status is None else bool(status),
    }


@cache
def revision() -> str:
    """The revision of this code in a word, asked once: its commit, with `+changes` if it is dirty."""
    facts = git_facts(_ROOT) or {}
    return (facts.get("commit") or "unknown") + ("" if facts.get("dirty") is False else "+changes")


def device_facts(kind: str) -> dict[str, Any]:
    """What the `cpu` or `cuda` device of this machine is: type, name and, of a GPU, memory, driver and runtime."""
    if kind == "cpu":
        return {"type": "cpu", "name": cpu_model(), "version": cpu_version()}
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return {
        "type": "cuda",
        "name": properties.name,
        "count": torch.cuda.device_count(),
        "memory_mib": properties.total_memory // 2**20,
        "driver": driver.splitlines()[0] if driver else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def cpu_facts() -> dict[str, Any]:
    """Model, cores, load average over 1, 5 and 15 minutes and memory of the machine."""
    import psutil

    return {
        "name": cpu_model(),
        "cores": psutil.cpu_count(logical=False),
        "threads": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "memory_mib": psutil.virtual_memory().total // 2**20,
    }


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    return _processor().get("brand_raw") or platform.processor() or platform.machine()


def cpu_version() -> str:
    """What decides on the order of additions, and so on the last digits: the make of the core, and its instructions.

    A name may stand for several ("Intel Xeon Processor" on a virtual machine).
    """
    numbers = "-".join(str(_processor().get(key, "?")) for key in ("family", "model", "stepping"))
    return f"{numbers} {torch.backends.cpu.get_cpu_capability()}"


@cache
def _processor() -> dict[str, Any]:
    from cpuinfo import get_cpu_info  # asks in a process of its own, which takes some tenths of a second

    return get_cpu_info()


def _output(program: str, *arguments: str) -> str | None:
    if shutil.which(program) is None:
        return None
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, encoding="utf-8", errors="replace", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
