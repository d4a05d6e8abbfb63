"""Checkpoint files as data: tensors by name, whatever classes a pickle names; nothing of a file is executed."""

from __future__ import annotations

import logging
import pickle
import tarfile
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file

progress = logging.getLogger("progress")

_STATE_DICT_KEYS = ("state_dict", "model")
_FILES = ("model.safetensors", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_SHARED = 4  # how often over tensors may hold a file's numbers, which tied weights share


class _Inert:
    """Stands for every class and function a checkpoint names: takes anything, does nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...
    def __call__(self, *_: object, **__: object) -> _Inert:
        return self

    def __setstate__(self, _: object) -> None: ...
    def __setitem__(self, _: object, __: object) -> None: ...
    def append(self, _: object) -> None: ...
    def extend(self, _: object) -> None: ...
    def add(self, _: object) -> None: ...


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> torch.Tensor:
    # `as_strided` refuses what lies beyond the storage, where torch's own function would make that larger.
    return torch.empty(0, dtype=storage.dtype).set_(storage).as_strided(size, stride, offset)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _ALLOWED.get((module, name), _Inert)


def _load(file: IO[bytes], **_: object) -> Any:
    return _Unpickler(file).load()


# In the place of the module pickle; torch itself knows the types of storages, by their names. Its way with
# `weights_only` takes no class that is derived from list or dict, nor stand-ins in files from before torch 1.6.
_PICKLE: Any = types.SimpleNamespace(__name__="inert", Unpickler=_Unpickler, load=_load)


def _weights_file(source: Path) -> Path:
    """The weights of a saved model's folder, or of its part `unet`; a file is itself."""
    if not source.is_dir():
        return source
    for folder in (source, source / "unet"):
        for name in _FILES:
            if (folder / name).is_file():
                return folder / name
    raise ValueError(f"{source}: no weights; expected one of {', '.join(_FILES)}")


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name of a .ckpt, .pt, .bin or .safetensors file, or of a saved model's folder, on the CPU.

    Of a training checkpoint it is the entry `state_dict` (or `model`). They may be views of the file, which must not
    be written to in place meanwhile. Raises ValueError with one line that names the file, what was expected and what
    to do.
    """
    path = _weights_file(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a checkpoint (.ckpt, .pt, .bin or .safetensors)")
    with path.open("rb") as file:
        head = file.read(64).lstrip()
    if head.startswith(b"<"):
        raise ValueError(f"{path}: a web page, not a checkpoint; download the file itself")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path}: a pointer of Git LFS, not the checkpoint; fetch it with git lfs pull")
    try:
        return load_file(path) if path.suffix == ".safetensors" else _read(path)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path}: truncated or no checkpoint ({reason}); expected tensors by name in torch's or safetensors' "
            "format, download or copy it again"
        ) from error


def _read(path: Path) -> dict[str, torch.Tensor]:
    zipped = zipfile.is_zipfile(path)
    if zipped:
        _check_archive(path)
    elif tarfile.is_tarfile(path):  # torch would unpack it
        raise ValueError("an archive that torch did not write; unpack it first")
    # Mapped, what nobody asks for, such as an optimiser's state, is not read into memory.
    content = torch.load(path, "cpu", _PICKLE, weights_only=False, mmap=zipped)
    for key in _STATE_DICT_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise ValueError("it holds no tensors by name")
    # A stride of 0 repeats a number as often as the file claims, which costs nothing until somebody copies it.
    claimed, size = sum(tensor.nbytes for tensor in tensors.values()), path.stat().st_size
    if claimed > _SHARED * size:
        raise ValueError(f"its tensors claim {claimed / 1e6:.0f} MB in a file of {size / 1e6:.1f} MB")
    return tensors


def _check_archive(path: Path) -> None:
    if "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise ValueError("a TorchScript program, which would have to be run")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("an archive that torch did not write; unpack it first")
        for done, entry in enumerate(entries, start=1):
            with archive.open(entry) as file:
                while file.read(2**20):  # raises at a wrong checksum
                    pass
            if done % 100 == 0 or done == len(entries):
                progress.info("reading weights", extra={"done": done, "total": len(entries), "detail": ""})
