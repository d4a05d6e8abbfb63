"""Folders that a command writes for its user: nothing there is overwritten or deleted but what a command wrote itself.

A file `.sdseg-written` lists what was written, by content; a file that was changed since is the user's.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import InputError
from bench.files import atomic_path, part_prefix, sha256_of, sweep_parts

LIST = ".sdseg-written"


def check_apart(out: Path, *sources: Path | None) -> None:
    """InputError where `out` is one of the source folders or lies in one, whatever their spelling."""
    for source in sources:
        if source is None or not source.is_dir():
            continue
        for folder in (out.resolve(), *out.resolve().parents):
            if folder.exists() and folder.samefile(source):
                raise InputError(f"{out}: lies in {source}, whose files are read; choose another --out")


class OutputFolder:
    """A folder that may hold files of the user's besides those that commands wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: not a folder; choose another --out")
        self._written: dict[str, set[str]] = defaultdict(set)
        for line in (path / LIST).read_text(encoding="utf-8").splitlines() if (path / LIST).exists() else ():
            try:
                row = json.loads(line)
                self._written[row["file"]].add(row["sha256"])
            except (ValueError, TypeError, KeyError):  # cut short by a kill, before its file got its name
                continue

    def check(self, names: Iterable[str]) -> None:
        """InputError naming the first of these files that is there and is not a command's."""
        for name in names:
            path = self.path / name
            if os.path.lexists(path) and not self._is_own(path):
                raise InputError(
                    f"{path}: exists, and is not as a command left it; move it away or choose another --out"
                )

    def _is_own(self, path: Path) -> bool:
        listed = self._written.get(path.relative_to(self.path).as_posix(), set())
        return bool(listed) and path.is_file() and not path.is_symlink() and sha256_of(path) in listed

    @contextmanager
    def write(self, name: str) -> Iterator[Path]:
        """Yield a temporary path that becomes the file `name`; InputError where that is the user's."""
        self.check([name])
        with atomic_path(self.path / name) as part:
            yield part
            self._note(name, part)

    def put(self, path: Path, content: str | bytes) -> None:
        """Write a file of this folder, or of one in it."""
        with self.write(path.relative_to(self.path).as_posix()) as part:
            part.write_bytes(content.encode() if isinstance(content, str) else content)

    def remove(self, name: str) -> None:
        """Delete a file that a command wrote; one of the user's stays."""
        if self._is_own(self.path / name):
            (self.path / name).unlink()

    def _note(self, name: str, part: Path) -> None:
        # Before the file gets its name: a kill must not leave one that no command owns up to.
        digest = sha256_of(part)
        if digest not in self._written[name]:
            with (self.path / LIST).open("a", encoding="utf-8") as file:
                file.write("\n" * self._is_torn() + json.dumps({"file": name, "sha256": digest}) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self._written[name].add(digest)

    def _is_torn(self) -> bool:
        content = (self.path / LIST).read_bytes()
        return bool(content) and not content.endswith(b"\n")


@contextmanager
def replaced_folder(out: Path, source: Path) -> Iterator[Path]:
    """Yield an empty private folder that takes the place of `out` as a whole, once it is filled.

    Raises InputError where `out` holds a file that is not a command's, or the source.
    """
    check_apart(out, source)
    out = out.resolve()
    if out in source.resolve().parents:
        raise InputError(f"{out}: holds the source itself; choose another --out")
    old = OutputFolder(out)
    old.check(path.name for path in (sorted(out.iterdir()) if out.exists() else ()) if path.name != LIST)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=part_prefix(), dir=out.parent) as private:
        folder = Path(private) / "new"
        folder.mkdir()
        yield folder
        new = OutputFolder(folder)
        for path in sorted(folder.iterdir()):
            new._note(path.name, path)
        if out.exists():
            out.replace(Path(private) / "old")
        folder.replace(out)
    sweep_parts(out.parent)  # now that what a killed call had put aside is needed no more
