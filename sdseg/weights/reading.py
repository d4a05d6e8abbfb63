"""Checkpoint files as data: tensors by name, whatever classes a pickle names; nothing of a file is executed."""

from __future__ import annotations

import logging
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from safetensors.torch import load_file

progress = logging.getLogger("progress")

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STATE_DICT_KEYS = ("state_dict", "model")
_SHARED = 4  # how often over tensors may hold a file's numbers, which tied weights share


class _Storage(NamedTuple):
    key: str
    dtype: torch.dtype
    numel: int


class _Tensor(NamedTuple):
    """Where a tensor lies; read from the file only if it is wanted."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


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


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, stride, *_: _Tensor(
        storage, offset, size, stride
    ),
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _ALLOWED.get((module, name), _Inert)

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, numel, *view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or any(view):
            raise pickle.UnpicklingError("a storage of an unknown kind")
        return self.storages.setdefault(key, _Storage(key, dtype, numel))


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name of a .ckpt, .pt, .bin or .safetensors file, on the CPU.

    Of a training checkpoint it is the entry `state_dict` (or `model`); the optimiser's tensors are not even read.
    Raises ValueError with one line that names the file, what was expected and what to do.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a checkpoint (.ckpt, .pt, .bin or .safetensors)")
    with path.open("rb") as file:
        head = file.read(64).lstrip()
    if head.startswith(b"<"):
        raise ValueError(f"{path}: a web page, not a checkpoint; download the file itself")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path}: a pointer of Git LFS, not the checkpoint; fetch it with git lfs pull")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return _read_zip(path) if head.startswith(b"PK") else _read_legacy(path)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path}: truncated or no checkpoint ({reason}); expected tensors by name in torch's or safetensors' "
            "format, download or copy it again"
        ) from error


def _read_zip(path: Path) -> dict[str, torch.Tensor]:
    with zipfile.ZipFile(path) as archive:
        indexes = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
        if len(indexes) != 1:
            raise ValueError("an archive that torch did not write; unpack it first")
        root = indexes[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("written on a big-endian machine")
        with archive.open(indexes[0]) as file:
            content = _Unpickler(file).load()

        def read(storage: _Storage) -> bytes:
            entry = archive.getinfo(f"{root}data/{storage.key}")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError("a compressed storage")
            return archive.read(entry)

        return _tensors(content, read, path.stat().st_size)


def _read_legacy(path: Path) -> dict[str, torch.Tensor]:
    # torch before 1.6: four pickles, the list of storage keys, then the storages as (count, bytes).
    with path.open("rb") as file:
        if (_Unpickler(file).load(), _Unpickler(file).load()) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
            raise ValueError("not torch's format")
        _Unpickler(file).load()
        unpickler = _Unpickler(file)
        content, places = unpickler.load(), {}
        for key in _Unpickler(file).load():
            (count,) = struct.unpack("<q", file.read(8))
            places[key] = file.tell()
            file.seek(count * unpickler.storages[key].dtype.itemsize, 1)

        def read(storage: _Storage) -> bytes:
            file.seek(places[storage.key])
            return file.read(storage.numel * storage.dtype.itemsize)

        return _tensors(content, read, path.stat().st_size)


def _tensors(content: Any, read: Callable[[_Storage], bytes], file_bytes: int) -> dict[str, torch.Tensor]:
    for key in _STATE_DICT_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    wanted = {k: v for k, v in content.items() if isinstance(v, _Tensor)} if isinstance(content, dict) else {}
    if not wanted:
        raise ValueError("it holds no tensors by name")
    # A stride of 0 repeats a number as often as the file claims, which costs nothing until somebody copies it.
    claimed = sum(math.prod(tensor.size) * tensor.storage.dtype.itemsize for tensor in wanted.values())
    if claimed > _SHARED * file_bytes:
        raise ValueError(f"its tensors claim {claimed / 1e6:.0f} MB in a file of {file_bytes / 1e6:.1f} MB")
    storages: dict[str, torch.Tensor] = {}
    tensors = {}
    for done, (name, tensor) in enumerate(wanted.items(), start=1):
        storage = tensor.storage
        if storage.key not in storages:
            data = bytearray(read(storage))
            if len(data) != storage.numel * storage.dtype.itemsize:
                raise ValueError(f"{name}: its numbers are cut short")
            empty = torch.empty(0, dtype=storage.dtype)
            storages[storage.key] = torch.frombuffer(data, dtype=storage.dtype) if data else empty
        tensors[name] = storages[storage.key].as_strided(tensor.size, tensor.stride, tensor.offset)
        if done % 100 == 0 or done == len(wanted):
            progress.info("reading weights", extra={"done": done, "total": len(wanted), "detail": ""})
    return tensors
