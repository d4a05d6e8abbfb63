"""Paths and expressions on the command line arrive as they were typed, whatever Hydra's grammar makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config import compose_config, expand
from bench.errors import InputError
from bench.jobs import sweep_jobs
from bench.quoting import quote_overrides

ODD = r"""
    数据 Müller epoch=3-step=40 a%20b a,b a#b R&D it's a$b ~backup x[1] a:b a@b a+b 2024 1e5 true [x] {x} a;b
    a!b a\(b a${b}
"""
NAMES = [*ODD.split(), "Kvasir (1)", "my data", 'say "x"', "read: x"]
FOLDER = ["dataset=folder", "method=predictions"]


def arrived(override: str) -> object:
    return OverridesParser.create().parse_override(*quote_overrides([override])).value()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_arrives_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for key, path in (("dataset.root", name), ("+a.key.from_elsewhere", f"{tmp_path}/{name}/data")):
        assert arrived(f"{key}={path}") == path.replace("${", "\\${")


@pytest.mark.parametrize("name", ["Kvasir (1)", "数据", "a${b}", "a\\(b"])
def test_a_path_reaches_every_key(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "data"
    path.mkdir(parents=True)
    keys = ["dataset.root", "dataset.manifest", "method.options.root", "method.options.scores", "runs_dir"]
    config = compose_config([*FOLDER, *(f"{key}={path}" for key in keys)])
    dataset, options = config["dataset"], config["method"]["options"]
    assert [dataset["root"], dataset["manifest"], options["root"], options["scores"]] == [str(path)] * 4
    assert config["runs_dir"] == str(path)


def test_a_matrix_takes_such_paths(tmp_path: Path) -> None:
    path = tmp_path / "a,b (it's)=1"
    path.mkdir()
    cells = expand([*FOLDER[:1], f"dataset.root={path}", "methods=[unet,sdseg]"])
    assert [cell.config["dataset"]["root"] for cell in cells] == [str(path)] * 2


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_text_arrives_or_keeps_its_meaning_for_hydra(text: str) -> None:
    (quoted,) = quote_overrides([f"dataset.root={text}"])
    assert quote_overrides([quoted]) == [quoted]
    if text != "null" and "${" not in text and text[0] not in "'\"":
        assert arrived(f"dataset.root={text}") == text


@pytest.mark.parametrize("pattern", [r"^(patient\d+)", r"^(p\d{3})-", r"([A-Z]+\(\d\))", r"a\\b|c"])
def test_expressions_need_no_quotes_of_hydras(pattern: str) -> None:
    config = compose_config([*FOLDER, "dataset.root=x", "method.options.root=x", f"dataset.group_regex={pattern}"])
    assert config["dataset"]["group_regex"] == pattern


def test_lists_interpolations_and_quotes_stay_what_they_are(tmp_path: Path) -> None:
    same = [
        "methods=[unet,sdseg]",
        "dataset.root='a b'",
        "seeds=[0,1]",
        "method.options.scores=null",
        "dataset.root=${runs_dir}/x",
    ]
    same += ["dataset.labels=[left lung,right lung]", "dataset.split=[0.5,0.5,0.0]", "draws=3", "draws", "~dataset.x"]
    assert quote_overrides(same) == same
    labels = compose_config([*FOLDER, "dataset.root=x", "method.options.root=x", "dataset.labels=[Größe,'a, b',c d]"])
    assert labels["dataset"]["labels"] == ["Größe", "a, b", "c d"]
    (tmp_path / "a,b").mkdir()
    jobs = sweep_jobs([f"dataset.root={tmp_path}/a,b", "seed=0,1"])
    assert [job[1] for job in jobs] == ["seed=0", "seed=1"]
    assert len(sweep_jobs(["dataset.root=a,b"])) == 2


def test_what_cannot_be_read_says_how_to_quote() -> None:
    with pytest.raises(InputError, match=r"methods=\[unet.*quote"):
        compose_config(["methods=[unet"])
