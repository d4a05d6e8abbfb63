"""Two outputs of score-folder on the same references: the answer in words, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import cli
from bench.compare import compare_runs
from bench.errors import InputError
from bench.scoring.folder import score_folder
from tests.report_fixtures import write_run
from tests.test_compare import pair, values


def write_masks(root: Path, names: Sequence[str], errors: float, seed: int) -> Path:
    """Discs of which a share of pixels is wrong; none with no errors."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :24]
    root.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        mask = (y - 12) ** 2 + (x - 8 - index % 8) ** 2 < 40
        mask = mask ^ (rng.random(mask.shape) < errors * rng.uniform(0.5, 1.5))
        Image.fromarray(mask.astype(np.uint8) * 255).save(root / f"{name}.png")
    return root


NAMES = [f"case{index:02d}" for index in range(40)]


def scored_masks(tmp_path: Path, name: str, errors: float, seed: int, names: Sequence[str] = NAMES, **of: Any) -> Path:
    reference = write_masks(tmp_path / f"{name}-ref", names, 0.0, 0)
    pred = write_masks(tmp_path / f"{name}-pred", names, errors, seed)
    if of.pop("other_reference", False):
        write_masks(reference, names[:1], 0.5, 9)
    score_folder(pred, reference, tmp_path / name, metrics=("Dice", "HD95"), **of)
    return tmp_path / name


def test_two_folders_of_masks_compare(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good, bad = scored_masks(tmp_path, "good", 0.01, 1), scored_masks(tmp_path, "bad", 0.05, 2)
    found = compare_runs(good, bad)
    assert found.answer.startswith("good is better than bad on Dice: +0.")
    assert "of 40 cases (40 groups)" in found.answer
    means = [json.loads((path / "summary.json").read_text())["metrics"]["Dice"]["foreground"] for path in (good, bad)]
    assert found.rows[0].comparison.difference.estimate == pytest.approx(means[0]["mean"] - means[1]["mean"])
    assert " px [" in compare_runs(good, bad, "HD95").answer
    assert cli.main(["compare", str(good), str(bad)]) == 0
    answer, condition, *_ = capsys.readouterr().out.splitlines()
    assert answer == found.answer
    assert condition == found.condition != compare_runs(*pair(tmp_path / "r", values(0.0), values(0.01))).condition


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "nnunet"}, r"another protocol \(strict, nnunet\)"),
        ({"names": NAMES[:-1]}, r"another set of cases \(40 cases, 39 cases\)"),
        ({"names": [*NAMES[:-1], "other"]}, "another set of reference masks"),
        ({"other_reference": True}, "another set of reference masks"),
    ],
)
def test_folders_scored_otherwise_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    one, other = scored_masks(tmp_path, "one", 0.01, 1), scored_masks(tmp_path, "two", 0.01, 2, **change)
    with pytest.raises(InputError, match=message) as caught:
        compare_runs(one, other)
    assert "\n" not in str(caught.value)


def test_folders_at_other_sizes_or_labels_are_refused(tmp_path: Path) -> None:
    small, large = (scored_masks(tmp_path, f"size{size}", 0.01, 1, protocol="sdseg", size=size) for size in (12, 24))
    with pytest.raises(InputError, match=r"another grid \(12 x 12"):
        compare_runs(small, large)
    for out, change in ((small, {"labels": ["cup"]}), (large, {})):
        summary = json.loads((out / "summary.json").read_text())
        (out / "summary.json").write_text(json.dumps({**summary, **change, "rules": {"grid": "24"}}))
    with pytest.raises(InputError, match=r"another labels \(cup, foreground\)"):
        compare_runs(small, large)


def test_a_run_and_a_folder_the_same_folder_and_a_broken_summary_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder, run = scored_masks(tmp_path, "masks", 0.01, 1), write_run(tmp_path / "r", scores=values(0.0))
    other = scored_masks(tmp_path, "other", 0.01, 1)
    for arguments, words in (
        ((folder, run), "a run and an output of score-folder"),
        ((run, folder), "a run and an output of score-folder"),
        ((folder, folder / ".." / "masks"), "the same twice"),
    ):
        with pytest.raises(InputError, match=words):
            compare_runs(*arguments)
    capsys.readouterr()  # how the masks were read
    for content in ("{", "[]", '{"protocol": "strict"}'):
        (other / "summary.json").write_text(content)
        assert cli.main(["compare", str(folder), str(other)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith(f"error: {other / 'summary.json'}: not a summary of score-folder")


def test_a_p_that_would_print_as_zero_is_said_to_be_below(tmp_path: Path) -> None:
    outs = [scored_masks(tmp_path, name, errors, 1, NAMES[:16]) for name, errors in (("good", 0.01), ("bad", 0.3))]
    found = compare_runs(*outs)
    assert 0 < found.rows[0].p < 0.00005  # 16 cases of one sign: two of 2 ** 16 flips
    assert ", p < 0.0001, better on 100%" in found.answer
    assert "  <0.0001  " in found.table()


def test_too_few_groups_see_no_difference(tmp_path: Path) -> None:
    outs = [scored_masks(tmp_path, name, errors, 1, NAMES[:5]) for name, errors in (("good", 0.01), ("bad", 0.3))]
    found = compare_runs(*outs)
    assert found.rows[0].p == 0.0625  # two of 2 ** 5 flips
    assert found.answer.startswith("No difference shown")
    assert "too few groups for this test to see any difference" in found.answer


def test_a_table_that_is_not_its_summarys_is_refused(tmp_path: Path) -> None:
    first, second = (scored_masks(tmp_path, name, 0.01, seed) for name, seed in (("first", 1), ("second", 2)))
    (first / "scores.parquet").write_bytes((second / "scores.parquet").read_bytes())
    with pytest.raises(InputError, match=r"first/scores\.parquet: damaged"):
        compare_runs(first, second)
