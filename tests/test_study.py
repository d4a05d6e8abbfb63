"""Studies: what a file says, the plan it makes, and a plan carried out, killed and resumed."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import cli, progress
from bench.command import study
from bench.command.sweeps import run_jobs
from bench.errors import InputError
from bench.record import read_record
from bench.study import planned, read_study
from reports.published import SDSEG_PAPER, read_ledgers
from tests.test_cli import make_folder

SMALL = """# A small study.
set: [profile=smoke, runs_dir={runs}, "dataset.root={images}", threads=1, image_size=32, draws=2, "metrics=[Dice,IoU]",
      train.steps=2, train.validate_every=2, measure.rounds=3]
data:
  folder: {{source: built_in}}
parts:
  accuracy: {{feeds: [Table 2], methods: [unet, sdseg], datasets: [folder]}}
  cost: {{feeds: [Table 4], methods: [unet], datasets: [folder], measure: true, set: ["measure.batch_sizes=[1]"]}}
"""
METHOD = "name: ends\ntarget: ending_method.build\noptions: {}\ninference: {}\nrecipe: {}\n"
ENDS = """
import os, pathlib, signal

def build(task, seed, device, recipe):
    if not os.path.exists("killed"):
        pathlib.Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    pathlib.Path("again").touch()
    raise RuntimeError("out of memory")
"""
# The paper's names of the systems that Tables 2 to 6 print, and the methods that stand for them.
PAPER = {
    "U-Net": "unet",
    "U-Net (w/ R50)": "unet_resnet50",
    "Swin-UNETR": "swin_unetr_3d",
    "nnU-Net": "nnunet",
    "TransU-Net": "trans_unet",
    "SwinU-Net": "swin_unet",
    "SSFormer": "ssformer",
    "Li-SegPNet": "li_segpnet",
    "Diff-Trans": "diff_trans",
    "MedSegDiff-V1": "medsegdiff_v1",
    "MedSegDiff-V2": "medsegdiff_v2",
    "Diff-U-Net": "diff_unet_3d",
    "SDSeg": "sdseg",
    "SDSeg (DDIM)": "sdseg_ddim10",
}


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., list[str]]:
    """Writes the small study, a text of it replaced, and gives the arguments that name it."""
    images = make_folder(tmp_path / "images")

    def write(old: str = "", new: str = "") -> list[str]:
        folder = tmp_path / "conf" / "study"
        folder.mkdir(parents=True, exist_ok=True)
        text = SMALL.format(runs=tmp_path / "runs", images=images)
        assert old in text
        (folder / "small.yaml").write_text(text.replace(old, new) if old else text)
        return [f"hydra.searchpath=[{tmp_path / 'conf'}]"]

    return write


def test_every_row_of_the_papers_tables_has_a_cell() -> None:
    parts = read_study("sdseg_paper").parts.values()
    by_table: dict[str, set[tuple[str, str]]] = {}
    for part in parts:
        for table in part.feeds:
            by_table.setdefault(table, set()).update(itertools.product(part.datasets, part.methods))
    printed = [entry for entry in read_ledgers() if entry.source == SDSEG_PAPER and entry.table in "2345"]
    assert len({(entry.table, entry.dataset, entry.method) for entry in printed}) == 39
    for entry in printed:
        assert (entry.dataset, PAPER[entry.method]) in by_table[f"Table {entry.table}"], entry
    ablation = ("ablation_cross_attention", "ablation_concat", "ablation_trainable_encoder", "sdseg")
    assert by_table["Table 6"] == set(itertools.product(("btcv", "refuge2"), ablation))


def test_the_miniature_has_the_papers_plan() -> None:
    paper, mini = (read_study(name) for name in ("sdseg_paper", "sdseg_paper_mini"))
    plans = [{(p.feeds, p.methods, p.datasets, p.measure) for p in study.parts.values()} for study in (paper, mini)]
    assert plans[0] == plans[1]
    cells = planned(mini := read_study("sdseg_paper_mini", ["datasets=[sts3d]"]))
    assert {one.cell.config["profile_name"] for one in cells} == {"smoke"}
    assert {one.cell.config["dataset"]["root"] for one in cells} == {str(mini.data_dir / "sts3d")}


def test_a_cell_that_feeds_two_parts_is_one(small: Callable[..., list[str]]) -> None:
    cells = planned(read_study("small", given := small()), given)
    assert [(one.cell.method, one.feeds, one.measure) for one in cells] == [
        ("unet", ("Table 2", "Table 4"), True),
        ("sdseg", ("Table 2",), False),
    ]
    assert cells[0].cell.config["measure"]["batch_sizes"] == [1]


def test_a_data_set_may_have_a_name_of_its_own(small: Callable[..., list[str]]) -> None:
    given = small("{source: built_in}", "{source: built_in, set: [dataset.name=mine]}")
    assert {one.cell.dataset for one in planned(read_study("small", given), given)} == {"mine"}


def test_a_launcher_that_is_missing_is_named_before_data_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study, "package_version", lambda package: None)
    assert cli.main(["study", "sdseg_paper_mini", "--launcher", "joblib", f"data_dir={tmp_path / 'data'}"]) == 2
    assert "--launcher joblib: hydra-joblib-launcher is not installed; pip install" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_no_jobs_need_no_launcher() -> None:
    assert run_jobs("run", [], ["hydra/launcher=no_such_launcher"]) == []


def test_steps_of_a_part_are_points_of_a_figure(small: Callable[..., list[str]]) -> None:
    cost = 'methods: [unet], datasets: [folder], measure: true, set: ["measure.batch_sizes=[1]"'
    given = small(cost, 'methods: [sdseg], datasets: [folder], set: ["method.inference.steps=1,2"')
    assert [one.cell.method for one in planned(read_study("small", given), given)] == ["unet", "sdseg", "sdseg.steps2"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("feeds: [Table 2], ", "", "small.yaml: parts.accuracy.feeds: Field required"),
        (
            "methods: [unet, sdseg]",
            "method: unet",
            "parts.accuracy.method: no such key; parts.accuracy.methods",
        ),
        ("parts:", "partss:", "small.yaml: partss: no such key; parts perhaps; known are builds_on, data, data_dir"),
        (
            "source: built_in",
            "sorce: built_in",
            "small.yaml: data.folder.sorce: no such key; data.folder.source",
        ),
        (
            "datasets: [folder], measure",
            "datasets: [fold], measure",
            "small.yaml: parts.cost.datasets: fold is",
        ),
        ("data:", "builds_on: nothing\ndata:", "study nothing: known are sdseg_paper, sdseg_paper_mini, small"),
        ("data:", "data: [", "small.yaml: not a study that can be read"),
    ],
)
def test_a_bad_file_is_named_with_its_key(small: Callable[..., list[str]], old: str, new: str, says: str) -> None:
    with pytest.raises(InputError, match=says.replace(".", r"\.")):
        read_study("small", small(old, new))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("methods=[unt]", "methods=unt: the methods of study small are unet, sdseg"),
        ("parts=[b]", "parts=b: the parts of study small are accuracy, cost"),
        ("seeds=[a]", "seeds=a: give whole numbers"),
    ],
)
def test_what_a_study_does_not_have_is_refused(small: Callable[..., list[str]], override: str, says: str) -> None:
    with pytest.raises(InputError, match=says.replace("[", r"\[")):
        read_study("small", [*small(), override])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("measure.batch_sizes=[1]", "measure.round=3", "parts.cost.set: measure.round: no such key; measure.rounds"),
        ("measure.batch_sizes=[1]", "method.optionz.x=3", "parts.cost.set: method.optionz.x: no such key; method.opt"),
        ("threads=1", "thraeds=1", "set: thraeds: no such key; threads perhaps; known are"),
        (
            "built_in}",
            'built_in, set: ["dataset.maks=auto"]}',
            "data.folder.set: dataset.maks: no such key; data",
        ),
        ("[unet, sdseg]", "[unt]", "parts.accuracy.methods: method=unt: no such method; unet"),
    ],
)
def test_a_bad_override_is_named_with_its_place(small: Callable[..., list[str]], old: str, new: str, says: str) -> None:
    given = small(old, new)
    with pytest.raises(InputError, match=rf"^\S*/small\.yaml: {re.escape(says)}"):
        planned(read_study("small", given), given)


def test_a_bad_override_of_the_command_line_is_not_the_studys(small: Callable[..., list[str]]) -> None:
    given = [*small(), "measure.round=3"]
    with pytest.raises(InputError, match=r"^measure\.round: no such key"):
        planned(read_study("small", given), given)


def test_seeds_parts_and_methods_narrow_a_study(small: Callable[..., list[str]]) -> None:
    given = [*small(), "methods=[unet]", "seeds=[1,2]", "parts=[accuracy]"]
    cells = planned(read_study("small", given), given)
    assert [(one.cell.method, one.cell.seed, one.measure) for one in cells] == [("unet", 1, False), ("unet", 2, False)]


def test_data_that_is_missing_comes_with_its_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", "sdseg_paper", f"data_dir={tmp_path}", "datasets=[btcv]"]) == 2
    assert f"sdseg prepare btcv --source RAW --out {tmp_path / 'btcv'} --preprocessing paper" in capsys.readouterr().err


def test_a_study_runs_measures_reports_and_is_done(
    small: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = small()
    assert cli.main(["study", "small", *given]) == 0
    records = {path.parts[-3]: read_record(path) for path in (tmp_path / "runs").glob("folder/*/*/record.json")}
    assert sorted(records) == ["sdseg", "unet"]
    assert records["unet"].score("samples_per_s") > 0
    assert records["unet"].score("peak_rss_mib") > 0
    assert len(records["unet"].timings["predict_batch1"].seconds) == 3
    assert not records["sdseg"].timings
    assert (tmp_path / "runs" / "report" / "index.html").exists()
    capsys.readouterr()
    assert cli.main(["study", "small", "--plan", *given]) == 0
    assert "2 done; about 0.00 h left; about 0.00 GB left" in capsys.readouterr().out
    assert cli.main(["study", "small", "--plan", "seeds=[1]", *given]) == 0
    assert "?" not in capsys.readouterr().out.rpartition("\n\n")[0]  # the steps of seed 0 were measured


def test_the_plan_says_how_a_question_mark_gets_a_number(
    small: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*small(), "parts=[accuracy]"]

    def question_marks() -> tuple[list[int], str]:
        assert cli.main(["study", "small", "--plan", *given]) == 0
        lines = capsys.readouterr().out.splitlines()
        return [line.split().count("?") for line in lines if line.startswith("folder-")], lines[-1]

    before, line = question_marks()
    assert before == [2, 2]
    _, _, command = line.rpartition(": sdseg ")
    assert cli.main(shlex.split(command)) == 0
    capsys.readouterr()
    assert question_marks()[0] == [0, 2]


@pytest.mark.parametrize("launcher", [None, "joblib", "submitit_local", "ray"])
def test_a_failed_cell_does_not_stop_the_rest_and_a_killed_one_is_done_again(
    launcher: str | None,
    small: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr(progress, "report", lambda *what: told.append(what))
    package = (launcher or "").partition("_")[0]
    if launcher and find_spec(f"hydra_plugins.hydra_{package}_launcher") is None:
        pytest.skip(f"hydra-{package}-launcher is not installed (extra sweep)")
    given = small("methods: [unet, sdseg]", "methods: [ends, unet]")
    (tmp_path / "conf" / "method").mkdir()
    (tmp_path / "conf" / "method" / "ends.yaml").write_text(METHOD)
    (tmp_path / "ending_method.py").write_text(ENDS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[1]}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    if launcher is None:
        (tmp_path / "killed").touch()  # in this process it would end the test
    chosen = ["--launcher", launcher] if launcher else []
    assert cli.main(["study", "small", *chosen, "parts=[accuracy]", *given]) == 3
    said = capfd.readouterr().err
    assert "error: folder-ends-seed0: " in said
    assert "RuntimeError: out of memory" in said
    assert (tmp_path / "again").exists()
    assert launcher in (None, "ray") or "it is done again" in said  # Ray does it by itself, without a word
    ended = [counts for task, *counts in told if task == "jobs ended"]
    assert (ended[-1][0] == ended[-1][1]) if launcher else not ended
    assert len(list((tmp_path / "runs").glob("folder/unet/*/record.json"))) == 1
