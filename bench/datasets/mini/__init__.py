"""Miniature raw downloads: drawn images in the layout, names and coding of the true ones, for trying and testing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from bench.datasets.mini.abdomens import write_btcv
from bench.datasets.mini.eyes import write_refuge2
from bench.datasets.mini.jaws import write_sts3d
from bench.datasets.mini.polyps import write_cvc_clinicdb, write_kvasir_seg

_WRITERS: dict[str, Callable[[Path, Collection[str] | None], None]] = {
    "cvc_clinicdb": write_cvc_clinicdb,
    "kvasir_seg": write_kvasir_seg,
    "refuge2": write_refuge2,
    "btcv": write_btcv,
    "sts3d": write_sts3d,
}
WHOLE = ".whole"  # a file that marks a miniature


def write_mini(name: str, folder: Path, cases: Collection[str] | None = None) -> Path:
    """Draw the miniature download of a data set below `folder`, the same at every call; returns the folder.

    `cases`: ids of the only ones to draw, which look as they do among the others.
    """
    if not (folder / WHOLE).exists():
        _WRITERS[name](folder, cases)
        (folder / WHOLE).touch()
    return folder
