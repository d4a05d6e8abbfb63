"""Results are reused by the same code alone, and reuse is said: edited code, invalid predictions, --redo, the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import cli
from bench.build import build_dataset
from bench.config import Cell, expand
from bench.declared import CONF_DIR, code_keys, replaced, shipped
from bench.files import digest
from bench.gate import run_facts
from bench.results.identity import fit_identity, run_identity
from bench.results.reuse import code_state
from bench.results.store import RunFolder
from bench.runner import run_cell
from bench.sources import code_names, lasting_name, outside_code
from tests.own_code import OwnCode

pytestmark = pytest.mark.usefixtures("no_lpips")

FACTS = {"data": "d", "split": "s"}


def overrides(runs: Path, *more: str) -> list[str]:
    shown = ["draws=1", "image_size=32", "metrics=[Dice,Area]", f"runs_dir={runs}"]
    return ["method=own", "dataset=own_data", "seed=0", *shown, *more]


def dice(text: str) -> str:
    return text.split("Dice ")[1].split()[0]


def runs_of(root: Path) -> list[Path]:
    return sorted(root.glob("own_data/own/seed0-*"))


def test_an_edited_method_is_run_again_from_its_fit(
    own_code: OwnCode,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    command = ["run", *overrides(tmp_path / "runs")]
    assert cli.main(command) == 0
    first = capsys.readouterr()
    assert "reused" not in first.err
    assert cli.main(command) == 0
    again = capsys.readouterr()
    assert "reused: fit, predictions and scores of 20" in again.err
    assert ", same code" in again.err
    own_code.edit("own_method", "score > 0.5)", "score < 0.5)")
    assert cli.main(command) == 0
    edited = capsys.readouterr()
    assert "reused" not in edited.err
    assert dice(first.out) == dice(again.out) == "1.0000"
    assert dice(edited.out) == "0.0000"
    assert len(runs_of(tmp_path / "runs")) == 2


@pytest.mark.parametrize("module", ["own_method", "own_data", "own_layers"])
def test_code_from_outside_counts_with_all_that_it_imports(
    own_code: OwnCode,
    tmp_path: Path,
    module: str,
) -> None:
    (own_code.root / "own_layers.py").write_text("WIDTH = 3\n")
    own_code.edit("own_method", "import torch\n", "import torch\nimport own_layers\n")
    cell = only_cell(tmp_path)
    before = fit_identity(cell, FACTS)
    path = own_code.root / f"{module}.py"
    own_code.edit(module, path.read_text(), path.read_text() + "\n# changed\n")
    assert fit_identity(cell, FACTS) != before


@pytest.mark.parametrize("section", [{"network": "own_method.Method"}, {"backbones": ["own_method.Method"]}])
def test_options_that_name_code_count_by_it(section: dict, own_code: OwnCode) -> None:
    method = {"target": "baselines.supervised.supervised_segmenter", "options": section, "code": ["backbones"]}
    before = outside_code(method)
    own_code.edit("own_method", "0.4", "0.5")
    assert len(before) == len(outside_code(method)) == 64
    assert before != outside_code(method)
    assert not outside_code({**method, "options": {"network": "monai.networks.nets.BasicUNet"}})


def only_cell(root: Path, *more: str) -> Cell:
    (cell,) = expand(overrides(root, *more))
    return cell


def test_methods_of_the_project_count_by_their_declared_version() -> None:
    (cell,) = expand(["method=unet", "dataset=phantom/polyp", "seed=0"])
    identity = fit_identity(cell, FACTS)
    assert {"code", "version"}.isdisjoint(identity)
    (workers,) = expand(["method=unet", "dataset=phantom/polyp", "seed=0", "train.workers=3"])
    assert fit_identity(workers, FACTS) == identity
    adamw = ["train.optimizer=adamw", "train.momentum=0.9"]  # as trained before there was a choice
    (stated,) = expand(["method=unet", "dataset=phantom/polyp", "seed=0", *adamw])
    assert fit_identity(stated, FACTS) == identity
    assert {"optimizer", "momentum"}.isdisjoint(identity["recipe"])
    for other in ("train.optimizer=sgd", "train.momentum=0.8"):
        (changed,) = expand(["method=unet", "dataset=phantom/polyp", "seed=0", other])
        assert fit_identity(changed, FACTS) != identity
    own_kind = Cell({**cell.config, "method": {**cell.config["method"], "recipe": {"optimizer": "adamw", "epochs": 3}}})
    assert fit_identity(own_kind, FACTS)["recipe"] == {"optimizer": "adamw", "epochs": 3}
    second = Cell({**cell.config, "method": {**cell.config["method"], "version": 2}})
    assert fit_identity(second, FACTS) == {**identity, "version": 2}


@pytest.mark.parametrize("method", ["unet_resnet50", "predictions"])
def test_where_code_of_the_project_lies_counts_for_nothing(method: str) -> None:
    (cell,) = expand([f"method={method}", "dataset=phantom/polyp", "seed=0", "++method.options.root=x"])
    for place, same in (("baselines.other.room.", True), ("baselines.other.New", False)):
        method = replaced(cell.config["method"], code_keys(), lambda name, to=place: to + name.rpartition(".")[2])
        elsewhere = Cell({**cell.config, "method": method})
        assert (fit_identity(elsewhere, FACTS) == fit_identity(cell, FACTS)) is same


def test_no_two_pieces_of_the_projects_code_have_one_lasting_name() -> None:
    names = {name for _, section in shipped() for name in code_names(section)}
    assert len(set(map(lasting_name, names))) == len(names) > 10


def test_the_committed_reference_is_of_the_runs_that_are_made_today() -> None:
    reference = json.loads((CONF_DIR.parent / "references" / "smoke-cpu.json").read_text())
    given = ["profile=smoke", "dataset=phantom/polyp", "seed=0"]
    for run in reference["runs"]:
        (cell,) = expand([*given, f"method={run['method']}"])
        data = build_dataset(cell.config).fingerprint()
        assert digest(run_identity(cell, data)) == run["hash"], run["method"]


@pytest.mark.parametrize(
    ("method", "given", "named"),
    [
        ("sdseg", [], {}),
        ("sdseg", ["method.inference.samples=5"], {"samples": 5}),
        ("diff_unet", [], {"runs": None}),
        ("diff_unet", ["method.inference.samples=5"], {"runs": 5}),
        ("medsegdiff_v2", ["method.inference.samples=1"], {"samples": 1}),
    ],
)
def test_runs_made_before_all_methods_drew_samples_keep_their_names(
    method: str, given: list[str], named: dict[str, Any]
) -> None:
    (cell,) = expand([f"method={method}", "dataset=phantom/polyp", "seed=0", *given])
    inference = run_identity(cell, FACTS)["inference"]
    assert {key: inference[key] for key in ("samples", "runs") if key in inference} == named


def test_a_file_that_an_option_names_counts_by_its_content(own_code: OwnCode, tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"1")
    cell = only_cell(tmp_path, f"+method.options.start={weights}")
    before = fit_identity(cell, FACTS)
    weights.write_bytes(b"2")
    assert fit_identity(cell, FACTS) != before


def test_an_edited_metric_is_scored_again(
    own_code: OwnCode,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    command = ["run", *overrides(tmp_path / "runs", "metrics=[Area]")]
    assert cli.main(command) == 0
    assert "Area 240.0000" in capsys.readouterr().out
    own_code.edit("own_metric", "pair.n_prediction", "2 * pair.n_prediction")
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert "reused: fit and predictions of" in said.err
    assert "Area 480.0000" in said.out


def test_redo_makes_a_step_and_those_after_it_again(own_code: OwnCode, tmp_path: Path) -> None:
    cell = only_cell(tmp_path)
    folder = run_cell(cell)
    made = [folder / name for name in ("model/weights.txt", "predictions/draw-000/case3.npz", "scores.parquet")]
    for first, step in enumerate(("fit", "predict", "score")):
        before = [path.stat().st_mtime_ns for path in made]
        assert run_cell(cell, redo=step) == folder
        assert [path.stat().st_mtime_ns != b for path, b in zip(made, before, strict=True)] == [False] * first + [
            True
        ] * (3 - first)
        assert (folder / "record.json").exists()


def test_redo_belongs_to_a_verb_that_makes_the_step(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["score", "--redo", "fit", "method=unet"]) == 2
    assert "--redo" in capsys.readouterr().err


def test_invalid_predictions_on_disk_are_made_again(
    own_code: OwnCode, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = RunFolder(run_cell(only_cell(tmp_path, "dataset.count=7"), ["fit", "predict"]))
    whole = {case: folder.read_prediction(0, case) for case in ("case3", "case4", "case5")}
    for case, value in (("case3", np.nan), ("case4", 1.5)):
        score, mask = whole[case]
        folder.write_prediction(0, case, np.full_like(score, value), mask)
    folder.prediction_path(0, "case5").write_bytes(b"PK")
    steps = folder.steps()
    folder.write_steps({**steps, "predict": {**steps["predict"], "codes": ["another"]}})
    assert cli.main(["run", *overrides(tmp_path), "dataset.count=7"]) == 0
    assert "3 predictions on disk are invalid and made again" in capsys.readouterr().err
    assert all(np.array_equal(folder.read_prediction(0, case)[0], score) for case, (score, _) in whole.items())
    assert folder.steps()["predict"]["codes"] == ["another", *steps["predict"]["codes"]]  # which made case6


def test_results_of_other_code_are_said_and_fail_in_the_gate(
    own_code: OwnCode,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    cell = only_cell(tmp_path)
    folder = RunFolder(run_cell(cell))
    assert code_state(folder.read_record()) == run_facts(folder.path).code == "same"
    steps = {step: {**entry, "codes": ["another"]} for step, entry in folder.steps().items()}
    folder.write_steps(steps)
    folder.write_record(folder.read_record().model_copy(update={"code": steps}))
    assert run_facts(folder.path).code == "other"
    assert cli.main(["run", *overrides(tmp_path)]) == 0
    assert "other code (--redo fit makes them again)" in capsys.readouterr().err
    folder.write_record(folder.read_record().model_copy(update={"code": {}}))
    assert run_facts(folder.path).code == "unknown"  # as records were before code was kept
