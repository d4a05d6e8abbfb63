"""`sdseg audit`: a data set, or a folder, looked at for what makes a number on it untrustworthy."""

from __future__ import annotations

from pathlib import Path

from bench.build import build_dataset
from bench.config import compose_config
from bench.datasets.audit.checks import Audit, audit
from bench.datasets.audit.page import render_page
from bench.datasets.audit.subject import Subject, of_dataset, of_folder, of_prepared
from bench.datasets.folder import Folder
from bench.datasets.prepared import Prepared
from bench.datasets.preparing import INFO
from bench.errors import InputError
from bench.files import strict_json
from bench.importing import import_by_name
from bench.results.outputs import OutputFolder, check_apart

PAGE, FACTS = "audit.html", "audit.json"


def audit_data(
    what: str, overrides: list[str], manifest: Path | None = None, split: str | None = None, out: Path | None = None
) -> tuple[Audit, Path]:
    """Audit a folder, or a data set by name, and write page and JSON; returns the audit and the page.

    `what` is a name where there are overrides, or no such folder. Raises InputError for a folder that holds no data
    set, an unknown name, and options that do not belong together.
    """
    root = Path(what)
    is_folder = root.is_dir() and not overrides
    subject = _folder(root, manifest, split) if is_folder else _named(what, overrides, manifest, split)
    out = Path("runs/audit") / (subject.name if is_folder else what) if out is None else out
    check_apart(out, *(root / name for name in ("images", "masks", "splits")))
    written = OutputFolder(out)
    written.check((PAGE, FACTS))  # before the work
    done = audit(subject)
    written.put(out / FACTS, strict_json(done.facts()))
    written.put(out / PAGE, render_page(done, subject.image))
    return done, out / PAGE


def _folder(root: Path, manifest: Path | None, split: str | None) -> Subject:
    if (root / INFO).is_file():
        return of_prepared(root, split, manifest)
    if split is not None:
        raise InputError(f"--split {split}: is of prepared folders; {root} holds no {INFO}")
    if not all((root / name).is_dir() for name in ("images", "masks")):
        raise InputError(f"{root}: neither a prepared folder ({INFO}) nor one with images/ and masks/; give one")
    return of_folder(root, manifest)


def _named(name: str, overrides: list[str], manifest: Path | None, split: str | None) -> Subject:
    chosen = [f"dataset={name}", *overrides]
    chosen += [f"dataset.{key}={value}" for key, value in (("manifest", manifest), ("split", split)) if value]
    try:
        config = compose_config(chosen)
    except InputError as error:
        if str(error).startswith(f"dataset={name}: no such"):
            raise InputError(f"{name}: neither a folder nor a data set; see sdseg list datasets") from error
        raise
    section = {k: v for k, v in config["dataset"].items() if k not in ("name", "target", "files", "code")}
    target = import_by_name(config["dataset"]["target"])
    if target is Prepared:
        own = None if section["manifest"] else section["split"]
        return of_prepared(Path(section["root"]), own, section["manifest"])
    if target is Folder:
        return of_folder(Path(section.pop("root")), **section)
    return of_dataset(name, build_dataset(config))
