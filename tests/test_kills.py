"""A command that is killed before any of its writes ends, called again, as one that was never killed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import cli
from bench.config import Cell
from bench.runner import Run
from tests.kills import Killed, content, killed_at
from tests.test_cli import make_folder
from tests.test_runner import POLYP, cell

pytestmark = pytest.mark.usefixtures("no_lpips")

# Of one call: when it was and how long it took.
PASSING = (
    "train_seconds",
    "train_s_per_step",
    "seconds_per_answer",
    "seconds_per_prediction",
    "environment",
    "scores",
    "created",
)


def timeless(files: dict[str, bytes]) -> dict[str, Any]:
    """Files with what tells two calls apart taken out."""

    def read(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: read(part) for key, part in value.items() if key not in PASSING}
        return value

    kept = {name: text for name, text in files.items() if not name.endswith((".sdseg-written", "training.pt"))}
    return {name: read(json.loads(text)) if name.endswith(".json") else text for name, text in kept.items()}


def killed_everywhere(start: Path, folder: Path, call: Callable[[Path], object], every: int = 1) -> int:
    """Kill `call(folder)`, begun on a copy of `start`, before every change; it must end as without a kill."""

    def begin() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder) if start.exists() else folder.mkdir()

    begin()
    call(folder)
    whole = timeless(content(folder))
    for count in range(0, 1000, every):
        begin()
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, count)
            try:
                call(folder)
            except Killed:
                pass
            else:
                return count
        call(folder)
        ended = timeless(content(folder))
        assert ended.keys() == whole.keys(), f"killed before change {count}"
        for name, value in whole.items():
            assert ended[name] == value, f"{name}, killed before change {count}"
    raise AssertionError("more changes than expected")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A small run, always in the same folder of runs: its configuration names it."""
    data = [*POLYP[:1], "dataset.n_train=2", "dataset.n_val=1", "dataset.n_test=2", "dataset.size=32"]
    runs = tmp_path_factory.mktemp("kills") / "runs"
    return cell(
        runs,
        "draws=1",
        "train.steps=1",
        "metrics=[Dice]",
        "method.options.options.features=[4,4,4,4,4,4]",
        data=data,
        method="unet",
    )


def step(small: Cell, name: str) -> Callable[[Path], object]:
    """A step of the run."""
    return lambda _: getattr(Run(small), name)()


@pytest.fixture(scope="module")
def stages(small: Cell, no_lpips: None) -> dict[str, Path]:
    """Folders of runs before every step."""
    runs = Path(small.config["runs_dir"])
    before_step = {"fit": runs.with_name("nothing")}
    for before, after in (("fit", "predict"), ("predict", "score"), ("score", "done")):
        step(small, before)(runs)
        before_step[after] = shutil.copytree(runs, runs.with_name(after))
    return before_step


@pytest.mark.parametrize("name", ["fit", "predict", "score"])
def test_steps(name: str, small: Cell, stages: dict[str, Path]) -> None:
    runs = Path(small.config["runs_dir"])
    every = 7 if name == "fit" else 3  # most of its changes are of the training loop, which is slow to begin
    assert killed_everywhere(stages[name], runs, step(small, name), every) > 2


def test_score_folder(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data", 3)

    def call(out: Path) -> None:
        masks = str(data / "masks")
        assert cli.main(["score-folder", masks, masks, "--out", str(out), "--metrics", "Dice"]) == 0

    assert killed_everywhere(tmp_path / "nothing", tmp_path / "out", call, every=5) > 5
    shutil.copytree(tmp_path / "out", tmp_path / "earlier")
    assert killed_everywhere(tmp_path / "earlier", tmp_path / "out", call, every=4) > 5


def test_import_weights(tmp_path: Path) -> None:
    from sdseg.mask_codec import load_tiny_codec

    load_tiny_codec().save_pretrained(tmp_path / "codec")

    def call(place: Path) -> None:
        assert cli.main(["import-weights", str(tmp_path / "codec"), "--out", str(place / "out")]) == 0

    (tmp_path / "earlier").mkdir()
    call(tmp_path / "earlier")
    assert killed_everywhere(tmp_path / "earlier", tmp_path / "place", call) >= 3


def test_report(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()

    def call(out: Path) -> None:
        assert cli.main(["report", "--runs", str(tmp_path / "runs"), "--out", str(out)]) == 0

    assert killed_everywhere(tmp_path / "nothing", tmp_path / "site", call, every=12) > 5


def test_what_a_kill_left_long_ago_is_made_up_for(small: Cell, stages: dict[str, Path]) -> None:
    runs = Path(small.config["runs_dir"])
    shutil.rmtree(runs)
    shutil.copytree(stages["done"], runs)
    whole = timeless(content(runs))
    (facts,) = runs.rglob("inference.json")
    facts.unlink()
    (facts.parents[1] / "scoring-12345678").mkdir()
    for name in ("predict", "score"):
        step(small, name)(runs)
    assert timeless(content(runs)) == whole
    assert not list(runs.rglob("scoring-*"))
