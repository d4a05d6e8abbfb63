"""Who is in which split: the manifests of the five data sets, `<data set>/<name>.csv`. docs/datasets.md tells them.

Columns case, group, split (train, val, test), sorted by case, numbers by value. `rules.py` makes every one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from bench.datasets.splitting import split_digest
from bench.errors import InputError

FOLDER = Path(__file__).parent
COLUMNS = ("case", "group", "split")
DATASETS = ("btcv", "cvc_clinicdb", "kvasir_seg", "refuge2", "sts3d")


def manifests(dataset: str) -> list[str]:
    """Names of a data set's manifests, sorted; raises InputError for a data set without any."""
    if dataset not in DATASETS:
        raise InputError(f"{dataset}: no split manifests; there are some for {', '.join(DATASETS)}")
    return sorted(path.stem for path in (FOLDER / dataset).glob("*.csv"))


def manifest(dataset: str, name: str) -> pd.DataFrame:
    """The rows of one manifest as text (case, group, split); raises InputError for a name that there is not."""
    names = manifests(dataset)
    if name not in names:
        raise InputError(f"split {name!r}: no manifest of {dataset}; use one of {', '.join(names)}")
    return pd.read_csv(FOLDER / dataset / f"{name}.csv", dtype=str)


def restricted(rows: pd.DataFrame, cases: Iterable[str]) -> pd.DataFrame:
    """The rows of some cases (a miniature), in the manifest's order; raises InputError for a case it does not list."""
    wanted = set(cases)
    unknown = sorted(wanted - set(rows["case"]))
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise InputError(
            f"case {unknown[0]!r}{more}: not in the manifest; its cases are named like {rows['case'].iloc[0]!r}"
        )
    return rows[rows["case"].isin(wanted)].reset_index(drop=True)


def manifest_digest(rows: pd.DataFrame) -> str:
    """sha256 of who is in which split and group, as a record keeps it."""
    cases = rows["case"]
    return split_digest(dict(zip(cases, rows["split"], strict=True)), dict(zip(cases, rows["group"], strict=True)))
