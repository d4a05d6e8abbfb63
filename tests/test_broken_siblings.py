"""A broken file of one run is named in a line, and keeps no other run from its fit, its report or its comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import cli, progress
from bench.errors import InputError
from bench.results.store import RunFolder
from reports.build import build_report
from tests.report_fixtures import made_up_scores, write_run


@pytest.fixture
def notes() -> Any:
    lines: list[str] = []
    progress.listen(progress.LineHandler(lines.append))
    yield lines
    progress.listen(progress.LineHandler(lambda line: None))


def fitted(root: Path, method: str, fit_hash: str) -> RunFolder:
    folder = RunFolder(root / "data" / method / "seed0-00000000")
    folder.model.mkdir(parents=True)
    (folder.model / "weights").write_text(method)
    folder.note_revisions("a")
    folder.write_fit_facts({"fit_hash": fit_hash})
    return folder


@pytest.mark.parametrize("name", ["model/fit.json", "revisions.json", "threads.json"])
def test_a_truncated_file_of_a_sibling_is_passed_over(tmp_path: Path, notes: list[str], name: str) -> None:
    """Its training is not taken, another one is."""
    broken = fitted(tmp_path, "a", "same")
    broken.note_threads("fit", 2)
    fitted(tmp_path, "b", "same").note_threads("fit", 2)
    (broken.path / name).write_text('{"fit_ha')
    own = RunFolder(tmp_path / "data" / "c" / "seed0-00000000")
    assert own.borrow_fit("same")
    assert (own.model / "weights").read_text() == "b"
    assert own.threads() == {"fit": [2]}
    (line,) = notes
    assert str(broken.path / name) in line
    assert "no training is taken from there" in line


@pytest.mark.parametrize("name", ["model/fit.json", "revisions.json", "predictions/inference.json"])
@pytest.mark.parametrize("content", ['{"a', "7"])
def test_a_truncated_file_of_ones_own_is_named(tmp_path: Path, name: str, content: str) -> None:
    folder = fitted(tmp_path, "a", "same")
    (folder.path / name).parent.mkdir(exist_ok=True)
    (folder.path / name).write_text(content)
    readers = (folder.fit_facts, folder.revisions, folder.inference_facts)
    read = next(reader for reader, part in zip(readers, ("fit", "revisions", "inference"), strict=True) if part in name)
    with pytest.raises(InputError) as caught:
        read()
    assert str(caught.value).startswith(str(folder.path / name))
    assert "delete" in str(caught.value)


ODD = [{"config": {"method": "unet"}}, {"environment": {"git": ["a"], "device": 3, "packages": "x"}}]


@pytest.mark.parametrize("odd", [*ODD, {"config": {"method": {"sweep": "steps", "inference": {"steps": "ten"}}}}])
def test_a_record_of_odd_content_does_not_stop_a_report(tmp_path: Path, odd: dict[str, Any]) -> None:
    write_run(tmp_path, "good", scores=made_up_scores(0.8, n=12))
    run = write_run(tmp_path, "odd", scores=made_up_scores(0.8, n=12))
    record = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps({**record, **odd}))
    result = build_report(tmp_path)
    assert "good" in result.text
    assert len([line for line in result.warnings if str(run) in line]) <= 1


def test_one_broken_run_leaves_the_report_of_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "good", scores=made_up_scores(0.8, n=12))
    for method, name in (("a", "record.json"), ("b", "scores.parquet")):
        run = write_run(tmp_path, method, scores=made_up_scores(0.8, n=12))
        (run / name).write_bytes((run / name).read_bytes()[:200])
    assert cli.main(["report", "--runs", str(tmp_path)]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:")]
    assert ["record.json: not" in line or "scores.parquet: not" in line for line in lines] == [True, True]


def test_compare_names_the_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (write_run(tmp_path, method, scores=made_up_scores(0.8, n=12)) for method in "ab")
    (b / "scores.parquet").write_bytes((b / "scores.parquet").read_bytes()[:200])
    assert cli.main(["compare", str(a), str(b)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {b / 'scores.parquet'}: not a table of scores")
