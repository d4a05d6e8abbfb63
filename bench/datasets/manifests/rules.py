"""Every split manifest, made from case ids and groups alone. `python -m bench.datasets.manifests.rules` writes them.

`published/` holds what cannot be computed, ids and splits as their owners list them: `official` is train.txt and
val.txt of Kvasir-SEG, `pranet` the test images whose predictions the PraNet repository showed, `effisegnet` the
folders of that repository. What each manifest is, and where it comes from, is told in docs/datasets.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd

from bench.datasets.manifests import COLUMNS, FOLDER
from bench.datasets.manifests.sequences import FRAMES, cvc_sequence
from bench.datasets.splitting import split_by_hash

Splits = dict[str, str]

SEED = 0
SEQUENCE_SEED = 8  # the first that brings validation and test, in whole sequences, within 3 frames of 61 each
CVC = [str(frame) for frame in range(1, FRAMES + 1)]
CVC_GROUPS = {frame: cvc_sequence(frame) for frame in CVC}
REFUGE_PARTS = {  # as distributed: 40 of the 400 training images are of eyes with glaucoma
    "train": [f"g{n:04d}" for n in range(1, 41)] + [f"n{n:04d}" for n in range(1, 361)],
    "val": [f"V{n:04d}" for n in range(1, 401)],
    "test": [f"T{n:04d}" for n in range(1, 401)],
}
BTCV = [f"{n:04d}" for n in (*range(1, 11), *range(21, 41))]
BTCV_TEST = ["0001", "0002", "0003", "0004", "0008", "0022", "0025", "0029", "0032", "0035", "0036", "0038"]
STS = [f"{n:04d}" for n in range(1, 13)]
STS_LARGE = "0009"  # 705 of the 2505 training slices


def by_counts(cases: Iterable[str], train: int, val: int, test: int) -> Splits:
    """So many single cases each, in the order of a seeded hash."""
    total = train + val + test
    return split_by_hash({case: case for case in cases}, (train / total, val / total, test / total), SEED)


def with_test(
    test: Sequence[str], cases: Iterable[str], share: float, group_of: Mapping[str, str] | None = None
) -> Splits:
    """A given test part; of the other cases a share becomes validation: whole groups, in the order of a seeded hash."""
    groups = {case: (group_of or {}).get(case, case) for case in cases if case not in set(test)}
    return dict.fromkeys(test, "test") | split_by_hash(groups, (1 - share, share, 0), SEED)


def fcbformer(cases: Iterable[str]) -> Splits:
    """FCBFormer's rule: a tenth of the names, sorted as text, is test, as many of the others are validation.

    Each time what scikit-learn's train_test_split(random_state=42) takes: the first of a permutation.
    """
    left = np.array(sorted(cases))
    size = round(len(left) / 10)
    split_of: Splits = {}
    for split in ("test", "val"):
        left = left[np.random.RandomState(42).permutation(len(left))]
        split_of |= dict.fromkeys(left[:size].tolist(), split)
        left = left[size:]
    return split_of | dict.fromkeys(left.tolist(), "train")


@cache
def published(dataset: str) -> dict[str, Splits]:
    """Lists that others published, by name."""
    rows = pd.read_csv(FOLDER / "published" / f"{dataset}.csv", dtype=str)
    return {name: dict(zip(rows["case"], rows[name], strict=True)) for name in rows.columns[1:]}


def listed(dataset: str, name: str, split: str = "test") -> list[str]:
    """The cases that a published list has in a split."""
    return [case for case, of in published(dataset)[name].items() if of == split]


def kvasir() -> list[str]:
    """The 1000 ids, sorted."""
    return list(published("kvasir_seg")["official"])


def sts_9_3() -> Splits:
    """Two of the nine are validation, never the large one, which is over a quarter of the slices."""
    small = [case for case in STS[:9] if case != STS_LARGE]
    return with_test(STS[9:], small, 2 / 8) | {STS_LARGE: "train"}


def refuge_400() -> Splits:
    """As distributed."""
    return {case: split for split, cases in REFUGE_PARTS.items() for case in cases}


RULES: dict[str, dict[str, Callable[[], Splits]]] = {
    "cvc_clinicdb": {
        "frame_488_62": lambda: by_counts(CVC, 488, 62, 62),
        "sequence": lambda: split_by_hash(CVC_GROUPS, (0.8, 0.1, 0.1), SEQUENCE_SEED),
        "fcbformer": lambda: fcbformer(CVC),
        "pranet": lambda: with_test(listed("cvc_clinicdb", "pranet"), CVC, 0.1, CVC_GROUPS),
    },
    "kvasir_seg": {
        "800_100_100": lambda: by_counts(kvasir(), 800, 100, 100),
        "official_880_120": lambda: with_test(listed("kvasir_seg", "official", "val"), kvasir(), 0.1),
        "fcbformer": lambda: fcbformer(kvasir()),
        "effisegnet": lambda: published("kvasir_seg")["effisegnet"],
        "pranet": lambda: with_test(listed("kvasir_seg", "pranet"), kvasir(), 0.1),
    },
    "refuge2": {
        "800_400": lambda: with_test(REFUGE_PARTS["test"], refuge_400(), 0.1),
        "400_400_400": refuge_400,
    },
    "btcv": {"transunet_18_12": lambda: with_test(BTCV_TEST, BTCV, 3 / 18)},
    "sts3d": {"9_3": sts_9_3},
}


def in_order(cases: Iterable[str]) -> list[str]:
    """Sorted, numbers by value."""
    return sorted(cases, key=lambda case: (int(case) if case.isdigit() else 0, case))


def csv_text(dataset: str, name: str) -> str:
    """A manifest as it is committed."""
    split_of = RULES[dataset][name]()
    groups = CVC_GROUPS if dataset == "cvc_clinicdb" else {}
    lines = [",".join(COLUMNS), *(f"{case},{groups.get(case, case)},{split_of[case]}" for case in in_order(split_of))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for dataset, names in RULES.items():
        (FOLDER / dataset).mkdir(exist_ok=True)
        for name in names:
            (FOLDER / dataset / f"{name}.csv").write_text(csv_text(dataset, name), encoding="utf-8", newline="\n")
