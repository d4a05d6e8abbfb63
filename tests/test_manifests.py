"""The committed split manifests: made again byte for byte, with the counts and leaks that docs/datasets.md states."""

from __future__ import annotations

import random
import re
import tomllib
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from bench.datasets.manifests import COLUMNS, DATASETS, FOLDER, manifest, manifest_digest, manifests, restricted
from bench.datasets.manifests.rules import (
    CVC,
    CVC_GROUPS,
    RULES,
    SEQUENCE_SEED,
    csv_text,
    fcbformer,
    in_order,
    kvasir,
    published,
    with_test,
)
from bench.datasets.manifests.sequences import LENGTHS, cvc_sequence, leak
from bench.datasets.splitting import SPLITS, split_by_hash
from bench.errors import InputError

PAGE = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text(encoding="utf-8")
NAMES = [(dataset, name) for dataset in DATASETS for name in manifests(dataset)]
# train, val, test; and the hash that records made with it hold.
PINNED = {
    ("btcv", "transunet_18_12"): (15, 3, 12, "9c9a2e3a9a9e9487"),
    ("cvc_clinicdb", "fcbformer"): (490, 61, 61, "83635b4582b06336"),
    ("cvc_clinicdb", "frame_488_62"): (488, 62, 62, "fc14baeb5972e8b2"),
    ("cvc_clinicdb", "pranet"): (499, 51, 62, "f660de9120b9dc7d"),
    ("cvc_clinicdb", "sequence"): (494, 58, 60, "874d1c8ba1d93b1c"),
    ("kvasir_seg", "800_100_100"): (800, 100, 100, "83c518c9e06f8673"),
    ("kvasir_seg", "effisegnet"): (800, 100, 100, "2a192f5e736d2abf"),
    ("kvasir_seg", "fcbformer"): (800, 100, 100, "a7f7ba185a26fb06"),
    ("kvasir_seg", "official_880_120"): (792, 88, 120, "0dd80a722bdceadd"),
    ("kvasir_seg", "pranet"): (810, 90, 100, "5799e8ecab5751e5"),
    ("refuge2", "400_400_400"): (400, 400, 400, "b0f3065668b9d378"),
    ("refuge2", "800_400"): (720, 80, 400, "ee202feeb50ff7ba"),
    ("sts3d", "9_3"): (7, 2, 3, "0eafe8a53b470045"),
}
CASES = {"btcv": 30, "cvc_clinicdb": 612, "kvasir_seg": 1000, "refuge2": 1200, "sts3d": 12}
# Frames that Kvasir-SEG holds twice under two ids, with masks drawn twice.
TWINS = [
    ("cju30bmab08bi0835mvlr6e0r", "cju77k828z46w0871r0avuoo9"),
    ("cju76lsehyia10987u54vn8rb", "cju772304yw5t0818vbw8kkjf"),
    ("cju886ryxnsl50801r93jai7q", "cju8amfdtqi4x09871tygrgqe"),
]


def splits(dataset: str, name: str) -> dict[str, str]:
    rows = manifest(dataset, name)
    return dict(zip(rows["case"], rows["split"], strict=True))


def cases(dataset: str, name: str, split: str) -> set[str]:
    return {case for case, of in splits(dataset, name).items() if of == split}


def test_every_rule_has_its_file_and_every_file_its_rule() -> None:
    assert NAMES == sorted(PINNED) == sorted((dataset, name) for dataset in RULES for name in RULES[dataset])
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders == {*DATASETS, "published"}


@pytest.mark.parametrize(("dataset", "name"), NAMES)
def test_the_rule_makes_the_file_byte_for_byte(dataset: str, name: str) -> None:
    assert (FOLDER / dataset / f"{name}.csv").read_bytes() == csv_text(dataset, name).encode()


@pytest.mark.parametrize(("dataset", "name"), NAMES)
def test_counts_order_and_hash(dataset: str, name: str) -> None:
    rows = manifest(dataset, name)
    assert tuple(rows.columns) == COLUMNS
    counts = Counter(rows["split"])
    assert (*(counts[split] for split in SPLITS), manifest_digest(rows)[:16]) == PINNED[dataset, name]
    assert rows["case"].tolist() == in_order(rows["case"])
    assert rows["case"].nunique() == len(rows) == CASES[dataset]


@pytest.mark.parametrize(("dataset", "name"), NAMES)
def test_a_group_lies_in_one_split_but_where_frames_are_split(dataset: str, name: str) -> None:
    rows = manifest(dataset, name)
    if dataset != "cvc_clinicdb":
        assert rows["group"].tolist() == rows["case"].tolist()
        return
    assert rows["group"].tolist() == [cvc_sequence(case) for case in rows["case"]]
    straddling = (rows.groupby("group")["split"].nunique() > 1).sum()
    assert (straddling == 0) == (name == "sequence")


def test_pages_counts_are_the_files() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) / (\d+) / (\d+) \|", PAGE, re.MULTILINE)
    assert {(d, n): tuple(map(int, counts)) for d, n, *counts in rows} == {key: p[:3] for key, p in PINNED.items()}


def test_pages_leaks_are_measured() -> None:
    stated = re.findall(r"^\| `(\w+)` \| (\d+) % \| (\d+) % \| (\d+) % \|", PAGE, re.MULTILINE)
    measured = []
    for name in manifests("cvc_clinicdb"):
        split_of = splits("cvc_clinicdb", name)
        whole = {case: "train" if split == "val" else split for case, split in split_of.items()}
        shares = (*leak(split_of), leak(whole).neighbour)
        measured.append((name, *(f"{100 * share:.0f}" for share in shares)))
    assert sorted(stated) == measured


def test_leak_counts_neighbours_of_the_same_sequence() -> None:
    # 25 | 26 is where sequence 1 ends: frame 26 has no neighbour in training, frame 2 has two, 4 only validation.
    split_of = {"1": "train", "2": "test", "3": "train", "4": "val", "5": "test", "25": "train", "26": "test"}
    assert leak(split_of) == (1 / 3, 2 / 3)


def test_sequences_are_the_612_frames() -> None:
    assert (len(LENGTHS), sum(LENGTHS)) == (29, 612)
    ends = {"sequence-01": (1, 25), "sequence-10": (200, 205), "sequence-14": (278, 297), "sequence-29": (592, 612)}
    for name, (first, last) in ends.items():
        assert [frame for frame in range(1, 613) if cvc_sequence(frame) == name] == list(range(first, last + 1))
    for frame in (0, 613):
        with pytest.raises(ValueError, match=r"1 \.\. 612"):
            cvc_sequence(frame)


def test_the_seed_of_the_sequences_is_the_first_that_is_near_enough() -> None:
    def is_near(seed: int) -> bool:
        counts = Counter(split_by_hash(CVC_GROUPS, (0.8, 0.1, 0.1), seed).values())
        return all(abs(counts[split] - 61) <= 3 for split in ("val", "test"))

    assert [seed for seed in range(SEQUENCE_SEED + 1) if is_near(seed)] == [SEQUENCE_SEED]


def test_the_order_in_which_cases_are_listed_changes_nothing() -> None:
    mixed = random.Random(1).sample(CVC, len(CVC))
    assert fcbformer(mixed) == fcbformer(CVC)
    test = cases("cvc_clinicdb", "pranet", "test")
    assert with_test(sorted(test), mixed, 0.1, CVC_GROUPS) == splits("cvc_clinicdb", "pranet")


def test_fcbformer_takes_what_scikit_learn_takes() -> None:
    # What train_test_split of scikit-learn 1.9.1 gives, first two of test, then of validation.
    drawn = fcbformer([str(n) for n in range(20)])
    assert {case for case, split in drawn.items() if split == "test"} == {"0", "7"}
    assert {case for case, split in drawn.items() if split == "val"} == {"5", "1"}
    assert {"172", "296", "149"} <= cases("cvc_clinicdb", "fcbformer", "test")
    assert {"163", "288", "536"} <= cases("cvc_clinicdb", "fcbformer", "val")


def test_fcbformer_agrees_with_an_installed_scikit_learn() -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    for names in (CVC, kvasir()):
        size = round(len(names) / 10)
        rest, test = selection.train_test_split(sorted(names), test_size=size, random_state=42)
        _, val = selection.train_test_split(rest, test_size=size, random_state=42)
        drawn = fcbformer(names)
        assert [{c for c, s in drawn.items() if s == part} for part in ("test", "val")] == [set(test), set(val)]


def test_published_parts_are_kept() -> None:
    lists = published("kvasir_seg")
    assert cases("kvasir_seg", "official_880_120", "test") == {c for c, s in lists["official"].items() if s == "val"}
    assert cases("kvasir_seg", "pranet", "test") == {c for c, s in lists["pranet"].items() if s == "test"}
    assert splits("kvasir_seg", "effisegnet") == lists["effisegnet"]
    assert {case[0] for case in cases("refuge2", "800_400", "test")} == {"T"}
    assert {case[0] for case in cases("refuge2", "800_400", "val")} <= {"g", "n", "V"}
    assert cases("btcv", "transunet_18_12", "test") >= {"0001", "0038"}
    assert cases("sts3d", "9_3", "test") == {"0010", "0011", "0012"}
    assert "0009" in cases("sts3d", "9_3", "train")  # the volume of 705 slices


def test_where_the_twins_of_kvasir_lie() -> None:
    apart = {
        name: sum({"train", "test"} == {splits("kvasir_seg", name)[twin] for twin in pair} for pair in TWINS)
        for name in manifests("kvasir_seg")
    }
    assert apart == {"800_100_100": 0, "effisegnet": 1, "fcbformer": 2, "official_880_120": 0, "pranet": 0}
    assert all(f"`{twin}`" in PAGE for pair in TWINS for twin in pair)


def test_a_miniature_takes_the_rows_of_its_cases() -> None:
    rows = manifest("btcv", "transunet_18_12")
    few = restricted(rows, ["0023", "0001", "0005"])
    assert few.to_dict("list") == {
        "case": ["0001", "0005", "0023"],
        "group": ["0001", "0005", "0023"],
        "split": ["test", "train", "val"],
    }
    assert manifest_digest(few) != manifest_digest(rows) == manifest_digest(rows.sample(frac=1, random_state=0))
    with pytest.raises(InputError, match=r"case '0011' and 1 more: not in the manifest"):
        restricted(rows, ["0011", "0001", "x"])


def test_unknown_names_list_those_there_are() -> None:
    with pytest.raises(InputError, match="use one of 9_3"):
        manifest("sts3d", "../btcv/transunet_18_12")
    with pytest.raises(InputError, match="there are some for btcv, cvc_clinicdb"):
        manifests("published")


def test_the_package_carries_the_files() -> None:
    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    bench = FOLDER.parents[1]
    carried = {path for glob in settings["tool"]["setuptools"]["package-data"]["bench"] for path in bench.glob(glob)}
    assert carried >= set(FOLDER.rglob("*.csv"))
    assert all(isinstance(manifest(*key), pd.DataFrame) for key in NAMES)
