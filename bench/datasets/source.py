"""A raw download as a folder: it is one, or an archive that is unpacked with care, or a file fetched with resume."""

from __future__ import annotations

import http.client
import re
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
_ARCHIVE = re.compile(r"\.(zip|rar|7z|tar|tgz|tbz2?|txz|(?<!nii\.)gz|bz2|xz)$", re.IGNORECASE)
_STAMP = ".archive"  # in the folder of an unpacked archive: which one it was


class _Member(NamedTuple):
    name: str
    size: int
    plain: bool  # a file, neither a link nor a device
    open: Callable[[], Any]


def raw_folder(source: Path, work: Path) -> Path:
    """The folder of a raw download; an archive is unpacked into `work`, where a killed call left off.

    Raises InputError naming the source, or the member of the archive that would leave the folder, is there twice, is
    no plain file, or claims more than the archive can hold.
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
        raise InputError(
            f"{source}: cannot be unpacked ({reason}); download it again, or unpack it and give the folder"
        ) from error
    raise InputError(f"{source}: no whole zip or tar archive; download it again, or unpack it and give the folder")


def archives_in(root: Path) -> list[str]:
    """Archives in a folder, which are not looked into."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if _ARCHIVE.search(path.name))


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        if not info.is_dir():
            plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
            yield _Member(info.filename, info.file_size, plain, partial(archive.open, info))


def _tar_members(archive: tarfile.TarFile) -> Iterator[_Member]:
    for info in archive:
        if not info.isdir():
            yield _Member(info.name, info.size, info.isreg(), partial(archive.extractfile, info))
    if archive.fileobj is not None:  # tarfile takes one that is cut between two members for whole
        archive.fileobj.seek(archive.offset)
        if len(archive.fileobj.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
            raise ValueError("its end is missing")


def _unpacked(source: Path, members: Iterator[_Member], work: Path) -> Path:
    _begin(source, work)
    claimed, seen, most = 0, set(), max(source.stat().st_size * _MOST_FOLDED, _SMALL)
    for number, member in enumerate(members, 1):
        path, name = PurePosixPath(member.name.replace("\\", "/")), f"{source}: the member {member.name!r}"
        if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
            raise InputError(f"{name} would lie outside; do not use this archive")
        if not member.plain:
            raise InputError(f"{name} is a link or a device; unpack it and give the folder")
        if path in seen:
            raise InputError(f"{name} is there twice; unpack it and give the folder")
        seen.add(path)
        claimed += member.size
        if claimed > most:
            raise InputError(f"{name} brings it to {claimed >> 20} MiB, more than it can hold; download it again")
        if _is_read(path):
            _unpack(member, work / path)
        elif _ARCHIVE.search(path.name):  # its name is enough to tell that it is there
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).touch()
        progress.report(f"unpacking {source.name}", number, number + 1)
    return work


def _begin(source: Path, work: Path) -> None:
    """Clear what was unpacked of another archive, or of this one before it was mended."""
    facts = source.stat()
    stamp = f"{source.resolve()} {facts.st_size} {facts.st_mtime_ns}"
    if (work / _STAMP).is_file() and (work / _STAMP).read_text(encoding="utf-8", errors="replace") == stamp:
        return
    shutil.rmtree(work, ignore_errors=True)
    with atomic_path(work / _STAMP) as part:
        part.write_text(stamp, encoding="utf-8", errors="surrogateescape")


def _is_read(path: PurePosixPath) -> bool:
    return "__MACOSX" not in path.parts and bool(format_suffix(Path(path)) or path.suffix.lower() in _KEPT)


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

    Raises InputError where the address cannot be reached, or the content has another hash than is known; RunError
    where the disk is full.
    """
    remedy = "run the command again, or download it yourself and give --source FILE"
    if not path.is_file():
        part = path.with_name(path.name + ".download")
        try:
            _append(url, part)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"{url}: cannot be downloaded ({reason}); {remedy}") from error
        part.replace(path)
    if sha256 is not None and sha256_of(path) != sha256:
        path.unlink()
        raise InputError(f"{url}: what came has another sha256 than is known, {sha256}; {remedy}")
    return path


def _append(url: str, part: Path) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if done and error.code == 416:
            if error.headers.get("Content-Range") == f"bytes */{done}":  # nothing is left to fetch
                return
            part.unlink()
        raise
    goes_on = answer.status == 206
    if goes_on and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {done}-"):
        raise ValueError("the server sends another part than was asked for")
    part.parent.mkdir(parents=True, exist_ok=True)
    with answer, part.open("ab" if goes_on else "wb", buffering=0) as file:
        left = int(answer.headers.get("Content-Length") or 0)
        total = file.tell() + left
        while chunk := answer.read(_CHUNK):
            _write(file, chunk, part)
            progress.report(f"downloading {part.stem}", file.tell() >> 20, total >> 20)
        if left and file.tell() < total:
            raise ValueError("the connection ended early")


def _write(file: Any, chunk: bytes, path: Path) -> None:
    try:
        written = 0
        while written < len(chunk):
            written += file.write(chunk[written:])
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); make room, the same command goes on") from error
