"""Archives that are damaged or would harm, and downloads that end early."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main
from bench.datasets.benchmarks import BENCHMARKS
from bench.datasets.source import fetch
from bench.errors import InputError
from bench.files import sha256_of
from tests.raw_downloads import KVASIR, Whole, call, label, pack, save, visible, write_raw

MASK = "REFUGE2/train/mask/g0001.bmp"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"))


def member(name: str, mode: int = 0o644, content: bytes = b"x") -> Callable[[Path], None]:
    """Adds a member to a zip archive."""

    def spoil(archive: Path) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as bundle:
            bundle.writestr(info, content)

    return spoil


def patched(place: int, form: str, value: int) -> Callable[[Path], None]:
    """Another number in the entry of a mask, both in its local header and in the table at the end."""

    def spoil(archive: Path) -> None:
        content = bytearray(archive.read_bytes())
        for before, behind in ((30, 4), (46, 6)):  # the table has the same fields, two bytes later
            name = content.find(MASK.encode()) if before == 30 else content.rfind(MASK.encode())
            struct.pack_into(form, content, name - before + place + behind - 4, value)
        archive.write_bytes(content)

    return spoil


def flipped(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[content.find(MASK.encode()) + len(MASK) + 200] ^= 1
    archive.write_bytes(content)


def cut(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])


def cut_between(archive: Path) -> None:
    with tarfile.open(archive) as tape:
        end = tape.getmembers()[-2].offset
    archive.write_bytes(archive.read_bytes()[:end])


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[Path], None]:
    """Adds a member to a tar archive."""

    def spoil(archive: Path) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, int(kind == tarfile.REGTYPE)
        with tarfile.open(archive, "a") as tape:
            tape.addfile(info, io.BytesIO(b"x"))

    return spoil


ROWS: list[tuple[str, str, Callable[[Path], Any], str]] = [
    ("up and out", "raw.zip", member("../evil.bmp"), "{}: the member '../evil.bmp' would lie outside; do not use"),
    ("deeper up and out", "raw.zip", member("a/../../evil.bmp"), "{}: the member 'a/../../evil.bmp' would lie outside"),
    ("absolute", "raw.zip", member("/tmp/evil.bmp"), "{}: the member '/tmp/evil.bmp' would lie outside"),
    ("backslashes", "raw.zip", member("..\\evil.bmp"), "{}: the member .* would lie outside"),
    ("a drive", "raw.zip", member("C:\\evil.bmp"), "{}: the member .* would lie outside"),
    ("a server", "raw.zip", member("\\\\host\\share\\evil.bmp"), "{}: the member .* would lie outside"),
    ("symlink", "raw.zip", member("REFUGE2/x.bmp", stat.S_IFLNK | 0o777, b"/etc/passwd"), "{}: the member .* a link"),
    ("device", "raw.zip", member("REFUGE2/x.bmp", stat.S_IFCHR | 0o644), "{}: the member .* is a link or a device"),
    ("twice", "raw.zip", member(MASK), f"{{}}: the member '{MASK}' is there twice; unpack it and give the folder"),
    ("a bomb", "raw.zip", patched(22, "<I", 300 << 20), "{}: the member .*g0001.bmp' brings it to 300 "),
    ("a bomb that understates", "raw.zip", patched(22, "<I", 90), "{}: cannot be unpacked .*; download it again"),
    ("encrypted", "raw.zip", patched(6, "<H", 1), f"{{}}: cannot be unpacked .*{MASK}.* encrypted.*; download"),
    ("an unknown method", "raw.zip", patched(8, "<H", 97), "{}: cannot be unpacked .*; .* or unpack it and give"),
    ("a wrong checksum", "raw.zip", flipped, f"{{}}: cannot be unpacked .*{MASK}.*; download it again"),
    ("half a zip", "raw.zip", cut, "{}: no whole zip or tar archive; download it again"),
    ("no zip", "raw.zip", lambda a: a.write_bytes(b"<html>Sign in</html>"), "{}: no whole zip or tar archive"),
    ("an empty zip file", "raw.zip", lambda a: a.write_bytes(b""), "{}: no whole zip or tar archive; "),
    ("rar", "raw.rar", lambda a: a.write_bytes(b"Rar!\x1a\7\1\0" + bytes(99)), "{}: no whole .*; .* unpack it and"),
    ("a bad mask inside", "raw.zip", lambda a: spoiled(a), f"{{}}: {MASK}: no disc in it; replace the file"),
    ("an archive inside", "raw.zip", lambda a: nested(a), "{}: no folder with .* in it; unpack REFUGE2.zip and"),
    ("tar up and out", "raw.tar", entry("../evil.bmp"), "{}: the member '../evil.bmp' would lie outside"),
    ("tar symlink", "raw.tar", entry("x.bmp", tarfile.SYMTYPE, "/etc"), "{}: the member 'x.bmp' is a link or a dev"),
    ("tar hardlink", "raw.tar", entry("x.bmp", tarfile.LNKTYPE, "../../y"), "{}: the member 'x.bmp' is a link"),
    ("tar device", "raw.tar", entry("x.bmp", tarfile.CHRTYPE), "{}: the member 'x.bmp' is a link or a device"),
    ("tar pipe", "raw.tar", entry("x.bmp", tarfile.FIFOTYPE), "{}: the member 'x.bmp' is a link or a device"),
    ("a tar without its last members", "raw.tar", cut_between, "{}: cannot be unpacked .its end is missing.; download"),
    ("half a tar", "raw.tar", cut, "{}: cannot be unpacked .*; download it again"),
    ("half a tar.gz", "raw.tar.gz", cut, "{}: cannot be unpacked .*; download it again"),
]  # fmt: skip


def spoiled(archive: Path) -> None:
    raw = write_raw("refuge2", archive.parent / "spoiled")
    save(raw / MASK, label() * 0 + 255)
    pack(raw, archive)


def nested(archive: Path) -> None:
    inner = archive.replace(archive.with_name("REFUGE2.zip"))
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.write(inner, inner.name)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("name", "spoil", "line"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_corrupted_archive(
    name: str, spoil: Callable[[Path], Any], line: str, whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, raw = whole.files("refuge2"), write_raw("refuge2", tmp_path / "raw")
    archive, out = tmp_path / name, tmp_path / "place" / "out"
    pack(raw, archive)
    spoil(archive)
    before = visible(tmp_path)
    assert call("refuge2", archive, out) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert re.match("error: " + line.replace("{}", re.escape(str(archive))), error)
    written = visible(tmp_path)
    assert {path: written[path] for path in written if not path.startswith("place/out/")} == before
    assert not list(out.rglob(".part-*"))
    archive.unlink()
    repaired = pack(raw, archive if archive.suffix != ".rar" else archive.with_suffix(".zip"))
    assert call("refuge2", repaired, out) == 0
    assert visible(out) == expected
    assert os.listdir(tmp_path / "place") == ["out"]


def test_an_archive_mended_in_place_is_unpacked_anew(whole: Whole, tmp_path: Path) -> None:
    """A member of the same name and size may have other content."""
    raw = write_raw("refuge2", tmp_path / "raw")
    good = (raw / MASK).read_bytes()
    (raw / MASK).write_bytes(good[:-8] + b"\x40" * 8)
    assert call("refuge2", pack(raw, tmp_path / "raw.zip"), tmp_path / "out") == 2
    (raw / MASK).write_bytes(good)
    assert call("refuge2", pack(raw, tmp_path / "raw.zip"), tmp_path / "out") == 0
    assert visible(tmp_path / "out") == whole.files("refuge2")


class Server(ThreadingHTTPServer):
    """Serves one file: `ranges` says whether parts are served, `breaks` after how many bytes connections end."""

    content = b""
    ranges, breaks, chunked = True, 0, False
    asked: list[str]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked = []
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/kvasir-seg.zip"


class Answer(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        content, asked = self.server.content, self.headers.get("Range") or ""
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-") or 0) if self.server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if asked and self.server.ranges else 200)
        if asked and self.server.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        kind = (
            ("Transfer-Encoding", "chunked") if self.server.chunked else ("Content-Length", str(len(content) - start))
        )
        self.send_header(*kind)
        self.end_headers()
        part = content[start : start + self.server.breaks] if self.server.breaks else content[start:]
        self.wfile.write(b"%x\r\n" % len(part) + part if self.server.chunked else part)
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running
        running.shutdown()


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_download_goes_on_after_a_cut(server: Server, tmp_path: Path, ranges: bool, chunked: bool) -> None:
    server.content, server.ranges, server.chunked, server.breaks = os.urandom(3_000_000), ranges, chunked, 2_000_000
    (tmp_path / "whole").write_bytes(server.content)
    with pytest.raises(InputError, match=r"kvasir-seg.zip: cannot be downloaded \(.*\); run the command again, or"):
        fetch(server.url, tmp_path / "file")
    server.breaks, server.chunked = 0, False
    fetch(server.url, tmp_path / "file", sha256_of(tmp_path / "whole"))
    assert (tmp_path / "file").read_bytes() == server.content
    assert server.asked[1].startswith("bytes=")
    assert sorted(os.listdir(tmp_path)) == ["file", "whole"]


@pytest.mark.parametrize("longer", [0, 5])
def test_a_download_that_had_nothing_left(server: Server, tmp_path: Path, longer: int) -> None:
    """Killed right before the file got its name; a part that is too long is fetched again."""
    server.content = b"content"
    (tmp_path / "file.download").write_bytes(b"content" + b"x" * longer)
    if longer:
        with pytest.raises(InputError, match="cannot be downloaded"):
            fetch(server.url, tmp_path / "file")
    assert fetch(server.url, tmp_path / "file").read_bytes() == b"content"


def test_the_one_data_set_without_an_account_is_downloaded(
    server: Server, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_raw("kvasir_seg", tmp_path / "raw")
    server.content = pack(raw, tmp_path / "kvasir.zip").read_bytes()
    download = replace(BENCHMARKS["kvasir_seg"].download, url=server.url, sha256="0" * 64)

    def prepared(**changes: Any) -> int:
        here = replace(BENCHMARKS["kvasir_seg"], download=replace(download, **changes))
        monkeypatch.setitem(BENCHMARKS, "kvasir_seg", here)
        return main(["prepare", "kvasir_seg", "--out", str(tmp_path / "out"), "--partial"])

    assert prepared() == 2
    assert "what came has another sha256 than is known, 000" in capsys.readouterr().err
    assert prepared(url="http://127.0.0.1:9/kvasir-seg.zip") == 2
    assert "kvasir-seg.zip: cannot be downloaded (<urlopen error" in capsys.readouterr().err
    assert prepared(sha256=sha256_of(tmp_path / "kvasir.zip")) == 0
    assert visible(tmp_path / "out") == whole.files("kvasir_seg")
    assert len(whole.files("kvasir_seg")) > 2 * len(KVASIR)
    assert prepared(url="http://127.0.0.1:9/kvasir-seg.zip") == 0  # whole: nothing is downloaded again
