"""The example of docs/reports.md for users of pandas runs, and its numbers are those of the tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from reports.contest import contests
from reports.frame import read_frame
from tests.report_fixtures import made_up_scores, write_run

DOCS = Path(__file__).parents[1] / "docs" / "reports.md"


def test_the_example_gives_the_numbers_of_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for method, quality in (("sdseg", 0.85), ("unet", 0.8)):
        for seed in (0, 1):
            scores = made_up_scores(quality, n=24, draws=2, seed=seed + len(method))
            write_run(tmp_path / "runs", method, seed=seed, scores=scores, draws=2)
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    frame = read_frame(tmp_path / "runs")
    for row in frame.rows:
        assert names["by_case"][row.method].mean() == pytest.approx(row.summary("Dice").mean)
    (contest,) = contests(frame)
    assert names["difference"].mean() == pytest.approx(contest.difference(("sdseg", "unet")))
    assert len(names["difference"]) == 23  # one case is empty in both masks
    assert "phantom/polyp sdseg 0." in capsys.readouterr().out
