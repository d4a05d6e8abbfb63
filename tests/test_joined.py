"""Two prepared data sets in one training."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.datasets.contract import check_dataset
from bench.datasets.joined import Joined
from bench.datasets.mini import write_mini
from bench.datasets.preparing import prepare
from bench.errors import InputError

CASES = {
    "cvc_clinicdb": ["1", "26", "104", "105", "529", "530"],
    "kvasir_seg": ["cju0qkwl35piu0993l0dewei2", "cju14hjh2ob2o0835ouz3r5aa", "cju2pag1f0s4r0878h52uq83s"],
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("joined")
    for name, cases in CASES.items():
        prepare(name, write_mini(name, home / "raw" / name, cases), home / name, partial=True)
    return {name: home / name for name in CASES}


def joined(roots: dict[str, Path], **changes: str) -> Joined:
    return Joined(roots, **{"image_size": 32, "split": "pranet", "labels": "polyp", **changes})


def test_the_parts_train_together_and_one_is_tested(roots: dict[str, Path]) -> None:
    both, one = joined(roots), joined(roots, test="cvc_clinicdb")
    check_dataset(both)
    assert one.case_ids("train") == both.case_ids("train")
    assert {case.split("-")[0] for case in both.case_ids("train")} == set(CASES)
    assert {case.split("-")[0] for case in one.case_ids("test")} == {"cvc_clinicdb"}
    assert set(one.case_ids("test")) < set(both.case_ids("test"))
    case = both.case("cvc_clinicdb-104")
    assert (case.id, case.group) == ("cvc_clinicdb-104", "cvc_clinicdb-sequence-06")
    assert both.fingerprint()["data"] == one.fingerprint()["data"]
    assert both.fingerprint()["split"] != one.fingerprint()["split"]
    assert one.facts()["tested"] == "cvc_clinicdb"


def test_parts_that_do_not_fit_are_refused(roots: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset.test=etis: unknown; use one of cvc_clinicdb, kvasir_seg"):
        joined(roots, test="etis")
    raw = write_mini("kvasir_seg", tmp_path / "raw", CASES["kvasir_seg"])
    prepare("kvasir_seg", raw, tmp_path / "paper", "paper", partial=True)
    with pytest.raises(InputError, match="prepared for another task than"):
        joined({**roots, "kvasir_seg": tmp_path / "paper"})
