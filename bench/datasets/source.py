"""A raw download as a folder: it is one, or an archive that is unpacked with care, or a file fetched with resume."""

from __future__ import annotations

import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from bench import progress
from bench.datasets.formats import format_suffix
from bench.errors import InputError, RunError
from bench.files import atomic_path, sha256_of

_MOST_FOLDED = 100  # an archive of images and volumes unpacks to a few times its size
_SMALL = 256 << 20  # bytes that any archive may hold
_CHUNK = 1 << 20
_KEPT = (".csv", ".txt", ".json")


class _Member(NamedTuple):
    name: str
    size: int
    link: bool
    open: Callable[[], Any]


def raw_folder(source: Path, work: Path) -> Path:
    """The folder of a raw download; an archive is unpacked below `work`, where a killed call left off.

    Raises InputError naming the source, or the member of the archive that would leave the folder, is a link, or claims
    more than the archive can hold.
    """
    if source.is_dir():
        return source
    if not source.exists():
        raise InputError(f"{source}: no such file or folder; give the raw download")
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                return _unpacked(source, _zip_members(archive), work)
        if tarfile.is_tarfile(source):
            with tarfile.open(source) as archive:
                return _unpacked(source, _tar_members(archive), work)
    except (InputError, RunError):
        raise
    except PermissionError as error:
        raise InputError(f"{source}: {error.strerror}; make it readable") from error
    except Exception as error:  # zipfile, zlib, lzma and tarfile have a family of errors each
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{source}: damaged ({reason}); download it again") from error
    if source.suffix.lower() == ".rar":
        raise InputError(f"{source}: a RAR archive; unpack it and give the folder")
    raise InputError(f"{source}: neither a folder nor a whole zip or tar archive; download it again, or unpack it")


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        if not info.is_dir():
            link = stat.S_ISLNK(info.external_attr >> 16)
            yield _Member(info.filename, info.file_size, link, partial(archive.open, info))


def _tar_members(archive: tarfile.TarFile) -> Iterator[_Member]:
    for info in archive:
        if not info.isdir():
            yield _Member(info.name, info.size, not info.isreg(), partial(archive.extractfile, info))


def _unpacked(source: Path, members: Iterator[_Member], work: Path) -> Path:
    stored, claimed = source.stat().st_size, 0
    for number, member in enumerate(members, 1):
        path = PurePosixPath(member.name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise InputError(f"{source}: the member {member.name!r} would lie outside; do not use this archive")
        if member.link:
            raise InputError(f"{source}: the member {member.name!r} is a link; unpack it and give the folder")
        claimed += member.size
        if claimed > max(stored * _MOST_FOLDED, _SMALL):
            raise InputError(f"{source}: claims more than {claimed >> 20} MiB out of {stored >> 20}; not unpacked")
        if "__MACOSX" in path.parts or not (format_suffix(Path(path)) or path.suffix.lower() in _KEPT):
            continue
        _unpack(member, work / path)
        progress.report(f"unpacking {source.name}", number, number + 1)
    return work


def _unpack(member: _Member, path: Path) -> None:
    if path.is_file() and path.stat().st_size == member.size:
        return
    if shutil.disk_usage(_existing(path)).free < member.size:
        raise RunError(
            f"{path.parent}: too full to unpack {member.size >> 20} MiB; make room, the same command goes on"
        )
    with atomic_path(path) as part, member.open() as stream, part.open("wb") as file:
        shutil.copyfileobj(stream, file, _CHUNK)
        if file.tell() != member.size:
            raise ValueError(f"{member.name} is cut short")


def _existing(path: Path) -> Path:
    return next(parent for parent in path.resolve().parents if parent.exists())


def fetch(url: str, path: Path, sha256: str | None = None) -> Path:
    """Download a file to `path`, going on where a killed call left off; returns the path.

    Raises InputError where the address cannot be reached, or the content has another hash than is known.
    """
    if not path.is_file():
        part = path.with_name(path.name + ".download")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            _append(url, part)
        except (OSError, urllib.error.URLError, ValueError) as error:
            raise InputError(
                f"{url}: cannot be downloaded ({error}); run the command again, or download it and give --source FILE"
            ) from error
        part.replace(path)
    if sha256 is not None and sha256_of(path) != sha256:
        raise InputError(f"{path}: not the file that is known (sha256 differs); delete it and run the command again")
    return path


def _append(url: str, part: Path) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if done and error.code == 416:  # nothing is left to fetch
            return
        raise
    with answer, part.open("ab" if answer.status == 206 else "wb") as file:
        left = int(answer.headers.get("Content-Length") or 0)
        total = file.tell() + left
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            progress.report(f"downloading {part.stem}", file.tell() >> 20, total >> 20)
        if left and file.tell() < total:
            raise ValueError("the connection ended early")
