"""Code from outside through the command: entry points and folders, their options, sweeps, tables; odd settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import cli
from bench.config import compose_config, expand
from bench.errors import InputError
from bench.metrics import select
from bench.runner import run_cell
from reports.frame import read_frame
from reports.tables import errors
from tests.own_code import OwnCode

pytestmark = pytest.mark.usefixtures("no_lpips")

CHOSEN = ["method=own", "dataset=own_data", "seed=0", "image_size=32", "draws=1"]


def test_options_of_plugins_reach_them(own_code: OwnCode, tmp_path: Path) -> None:
    given = ["method.options.width=64", "+method.options.further=1", "dataset.count=7", f"runs_dir={tmp_path}"]
    assert cli.main(["run", *CHOSEN, *given]) == 0
    (path,) = tmp_path.rglob("record.json")
    record = json.loads(path.read_text())
    assert record["fit"]["width"] == 64
    assert record["config"]["method"]["options"] == {"width": 64, "further": 1}
    assert record["n_cases"] == {"train": 2, "val": 1, "test": 4}
    assert record["config"]["dataset"]["image_size"] == 32  # the profile's, as it has no default


@pytest.mark.parametrize(
    "override",
    ["method.options.nonexistent=1", "dataset.nonexistent=1", "+dataset.nonexistent=1", "method.nonexistent=1"],
)
def test_an_unknown_option_of_a_plugin_is_refused(
    override: str, own_code: OwnCode, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["run", *CHOSEN, override, f"runs_dir={tmp_path / 'runs'}"]) == 2
    err = capsys.readouterr().err
    assert "nonexistent" in err
    assert len(err.splitlines()) == 1


def test_a_strict_constructor_refuses_what_is_added(own_code: OwnCode, tmp_path: Path) -> None:
    own_code.edit("own_method", ", **options", "")
    (cell,) = expand([*CHOSEN, "+method.options.nonexistent=1", f"runs_dir={tmp_path}"])
    with pytest.raises(InputError, match="nonexistent"):
        run_cell(cell)


def test_an_argument_without_default_must_be_set(own_code: OwnCode) -> None:
    own_code.edit("own_method", "width: int = 3", "width")
    with pytest.raises(InputError, match=r"method\.options\.width must be given"):
        compose_config(CHOSEN)
    assert compose_config([*CHOSEN, "method.options.width=5"])["method"]["options"] == {"width": 5}


def test_a_plugin_named_as_a_method_of_the_project_is_refused(own_code: OwnCode) -> None:
    points = own_code.root / "own-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text().replace("own = ", "unet = "))
    with pytest.raises(InputError, match=r"method=unet: both own_method:Method and .*rename one"):
        compose_config(["method=unet"])


def test_an_entry_point_names_a_class_or_a_function(own_code: OwnCode) -> None:
    own_code.edit("own_method", "class Method:", "Method = 3\nclass Other:")
    with pytest.raises(InputError, match=r"own_method\.Method is a int; the entry point must name a class"):
        compose_config(CHOSEN)


def test_sweeps_know_plugins_and_folders(own_code: OwnCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "conf" / "method"
    conf.mkdir(parents=True)
    (conf / "filed.yaml").write_text(
        "name: filed\ntarget: own_method.Method\noptions: {width: 3}\ninference: {}\nrecipe: ${train}\n"
    )
    monkeypatch.chdir(tmp_path)
    rest = ["dataset=own_data", "seed=0", "image_size=32", "draws=1", f"runs_dir={tmp_path / 'runs'}"]
    where = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    assert cli.main(["run", "-m", "method=own,filed", *rest, where]) == 0
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "runs").rglob("record.json"))]
    assert [(record["method"], record["draws"]) for record in records] == [("filed", 1), ("own", 1)]


def test_a_metric_from_outside_is_in_the_tables(own_code: OwnCode, tmp_path: Path) -> None:
    assert cli.main(["run", *CHOSEN, "metrics=[Dice,Area]", f"runs_dir={tmp_path}"]) == 0
    table = errors.build(read_frame(tmp_path))
    (column,) = (column for column in table.shown("terminal") if column.key == "Area")
    assert column.heading == "Area (px) ↓"
    assert table.rows[0]["Area"] == 240.0


def test_a_metric_that_fails_or_has_two_names(own_code: OwnCode, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    own_code.edit("own_metric", "return pair.n_prediction", "return None")
    assert cli.main(["run", *CHOSEN, "metrics=[Area]", f"runs_dir={tmp_path}"]) == 3
    assert "metric Area: TypeError" in capsys.readouterr().err
    own_code.edit("own_metric", '"Area"', '"Other"')
    with pytest.raises(InputError, match="calls itself 'Other'"):
        select(["Area"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("device=tpu", "device=tpu: expected one of auto, cpu, cuda"),
        ("size=huge", "size=huge: the sizes of method unet are tiny, paper"),
        ("metrics=[]", "metrics=[]: name at least one"),
        ("metrics=[Dice,Dice]", "Dice is there twice"),
        ("train.max_grad_norm=-1", "max_grad_norm"),
        (
            "method=diff_unet method.options.weights=/nonexistent",
            "weights=/nonexistent: no such file or folder",
        ),
        ("method.options.scores=/nonexistent", "scores"),
    ],
)
def test_unknown_values_are_refused(override: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runs = tmp_path / "runs"
    assert cli.main(["run", "method=unet", "dataset.n_train=2", *override.split(), f"runs_dir={runs}"]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1 + captured.err.count("note: ")
    assert not list(runs.rglob("training.pt"))


def test_an_autoencoder_that_the_tiny_network_does_not_take(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "vae").mkdir()
    given = [f"method.options.autoencoder={tmp_path / 'vae'}", f"runs_dir={tmp_path / 'r'}"]
    assert cli.main(["fit", "method=sdseg", *given]) == 2
    assert "method.options.autoencoder: the tiny architecture brings its own" in capsys.readouterr().err
