"""What the datasets share: names of splits, sizes, digests, seeded splits by hash, and split manifests."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from bench.errors import InputError
from bench.files import digest
from bench.record import plain_text

SPLITS = ("train", "val", "test")
_EXPECTED = {"split": "split and optionally group", "group": "group"}


def check_split(split: str) -> str:
    """The name of a split; raises InputError for an unknown one."""
    if split not in SPLITS:
        raise InputError(f"split {split!r}: unknown; use one of {', '.join(SPLITS)}")
    return split


def plane_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    """An in-plane size (H, W) from one number or two; raises InputError for anything else."""
    sizes = [image_size] * 2 if isinstance(image_size, int) else list(image_size)
    if len(sizes) != 2 or any(not isinstance(n, int) or n < 1 for n in sizes):
        raise InputError(f"image_size {image_size!r}: expected one positive whole number or [height, width]")
    return sizes[0], sizes[1]


def split_digest(split_of: Mapping[str, str], group_of: Mapping[str, str]) -> str:
    """sha256 of who is in which split and group."""
    return digest([[case, split_of[case], group_of[case]] for case in sorted(split_of)])


def split_by_hash(group_of: Mapping[str, str], shares: Sequence[float], seed: int) -> dict[str, str]:
    """A split per case from shares (train, val, test): groups in the order of a seeded hash, kept whole.

    Exact to rounding when every case is its own group; as near as whole groups allow otherwise. A share of 0 is empty.
    """
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"split {list(shares)}: expected three shares (train, val, test) that add up to 1")
    members = defaultdict(list)
    for case, group in group_of.items():
        members[group].append(case)
    order = sorted(members, key=lambda g: hashlib.sha256(f"{seed}:{g}".encode()).digest())
    split_of: dict[str, str] = {}
    left = list(order)
    for name, share, later in (("test", shares[2], shares[:2]), ("val", shares[1], shares[:1])):
        target = max(round(share * len(group_of)), 1 if share > 0 and len(left) > 1 else 0)
        # Splits that are still to come want a group each, as far as there are enough.
        spared = min(sum(s > 0 for s in later), max(len(left) - 1, 1))
        for group in _take(left, members, target, spared):
            left.remove(group)
            split_of.update(dict.fromkeys(members[group], name))
    rest = next(name for name, share in zip(SPLITS, shares, strict=True) if share > 0)
    return split_of | {case: rest for group in left for case in members[group]}


def _take(groups: list[str], members: Mapping[str, list[str]], target: int, spared: int) -> list[str]:
    """The first groups that bring the number of cases nearest to `target`; so many are left unless all are wanted."""
    taken: list[str] = []
    count = 0
    wants_all = target >= sum(len(members[group]) for group in groups)
    for group in groups if wants_all else groups[: len(groups) - spared]:
        size = len(members[group])
        if target == 0 or (count and abs(count + size - target) >= abs(count - target)):
            break
        taken.append(group)
        count += size
        if count >= target:
            break
    return taken


def read_manifest(path: Path, known: Iterable[str], whole_groups: bool = True) -> tuple[dict[str, str], dict[str, str]]:
    """Split and group per case from a CSV with columns case, split and, if need be, group.

    Without `whole_groups` a group may lie in several splits.

    Raises InputError naming the file for missing columns, cases without a row, rows without a case,
    repeated rows, unknown splits, and groups that lie in two splits.
    """
    rows = _read_cases(path, known, "split")
    bad = rows.loc[~rows["split"].isin(SPLITS), "split"].tolist()
    _refuse(path, bad, f"no split; use one of {', '.join(SPLITS)}")
    cases = rows["case"].tolist()
    split_of = dict(zip(cases, rows["split"], strict=True))
    group_of = dict(zip(cases, rows.get("group", rows["case"]), strict=True))
    if whole_groups:
        check_groups(str(path), split_of, group_of)
    return split_of, group_of


def read_groups(cases: Iterable[str], path: Path | None = None, regex: str | None = None) -> dict[str, str]:
    """The group of every case: from a CSV with columns case and group, by a regular expression, or the case itself.

    The expression's first group in brackets, or its whole match in the case's name, names the group. Raises
    InputError for both at once, a case without a group, or a file that lists other cases.
    """
    if path is not None and regex is not None:
        raise InputError(f"groups: both {path} and the expression {regex!r}; give one of the two")
    if path is None:
        return {case: case if regex is None else _by_regex(regex, case) for case in cases}
    rows = _read_cases(path, cases, "group")
    return dict(zip(rows["case"], rows["group"], strict=True))


def _by_regex(pattern: str, case: str) -> str:
    try:
        match = re.search(pattern, case)
    except re.error as error:
        raise InputError(f"group_regex {pattern!r}: {error}") from error
    named = match and (match.group(1) if match.re.groups else match.group(0))
    if not named:
        what = "does not match" if match is None else "finds no name in"
        raise InputError(f"group_regex {pattern!r}: {what} the file stem {case!r}")
    return named


def _read_cases(path: Path, known: Iterable[str], column: str) -> pd.DataFrame:
    """Rows as text, exactly one for each of the known cases, with a column of that name."""
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable CSV file ({str(error).splitlines()[0]})") from error
    rows = rows.map(plain_text)  # ids copied from a table written here
    if "case" in rows:
        rows["case"] = rows["case"].str.normalize("NFC")  # as stems are
    missing = [c for c in ("case", column) if c not in rows]
    if missing:
        raise InputError(f"{path}: no column {missing[0]!r}; expected case, {_EXPECTED[column]}")
    cases = rows["case"].tolist()
    _refuse(path, [case for case, n in Counter(cases).items() if n > 1], "listed more than once")
    _refuse(path, sorted(set(cases) - set(known)), "listed, but there is no such image")
    _refuse(path, sorted(set(known) - set(cases)), f"not listed; give every image a {column}")
    if "group" in rows:
        _refuse(path, rows.loc[rows["group"] == "", "case"].tolist(), "has no group; name one for every case")
    return rows


def check_groups(source: str, split_of: Mapping[str, str], group_of: Mapping[str, str]) -> None:
    """Raise InputError when a group (patient, sequence) lies in more than one split."""
    seen: dict[str, str] = {}
    for case, split in split_of.items():
        if seen.setdefault(group_of[case], split) != split:
            group = group_of[case]
            raise InputError(f"{source}: group {group!r} lies in both {seen[group]} and {split}; keep it in one")


def _refuse(path: Path, names: Sequence[str], why: str) -> None:
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise InputError(f"{path}: {names[0]!r}{more}: {why}")
