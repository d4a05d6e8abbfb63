"""What `sdseg list` says, and which methods `all` stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import cli
from bench.catalogue import PROJECT, entries, group_of, in_all
from bench.command.arguments import LISTED
from bench.config import cell_overrides
from bench.declared import CONF_DIR
from tests.own_code import OwnCode

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("what", LISTED)
def test_everything_of_the_project_has_a_line(what: str) -> None:
    rows = entries(what)
    assert all(row.line and row.origin == PROJECT for row in rows)
    folder = CONF_DIR / group_of(what)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")}
    assert what == "metrics" or {f"{row.name}.yaml" for row in rows} == files


def test_a_line_comes_from_where_the_thing_is_defined(tmp_path: Path, own_code: OwnCode) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("# A method of mine, v. 2 of\n# it. And more.\nname: mine\n")
    own_code.edit("own_data", "class Data:\n", 'class Data:\n    """Squares\n    in a row.\n\n    More."""\n')
    own_code.edit("own_metric", "from bench", "1 / 0\nfrom bench")
    methods = {row.name: row for row in entries("methods", [f"hydra.searchpath=[{tmp_path}]"])}
    assert methods["mine"][1:] == ("A method of mine, v. 2 of it", str(tmp_path))
    assert methods["own"][1:] == ("", "entry point of package own")
    assert methods["unet"].line.startswith("MONAI's BasicUNet")
    (data,) = (row for row in entries("datasets") if row.name == "own_data")
    assert data == ("own_data", "Squares in a row", "entry point of package own")
    (area,) = (row for row in entries("metrics") if row.name == "Area")
    assert area.line == "cannot be imported: ZeroDivisionError: division by zero"


def test_list_prints_a_table(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["list", "protocols"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "what", "it", "is", "from"]
    assert sorted(line.split()[0] for line in lines[2:] if not line.startswith(" ")) == [
        row.name for row in entries("protocols")
    ]
    assert cli.main(["list", "models"]) == 2
    assert "invalid choice: 'models'" in capsys.readouterr().err


def test_all_stands_for_every_row_of_its_own(tmp_path: Path) -> None:
    names = in_all([])
    assert {"sdseg", "unet", "medsegdiff_v1", "swin_unetr_3d"} <= set(names)
    # neither variants, nor what builds on one, nor what must be given something
    assert not {"sdseg_z0", "sdseg_e2e", "ablation_concat", "predictions", "sdseg_pretrained"} & set(names)
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("defaults: [unet, _self_]\nname: mine\n")
    search = f"hydra.searchpath=[{tmp_path}]"
    asked = cell_overrides(["methods=all", search, "seeds=[0]"])
    assert [cell[1] for cell in asked] == [f"method={name}" for name in sorted([*names, "mine"])]
    beside = cell_overrides(["methods=[sdseg_z0,all]", "seeds=[0]"])
    assert [cell[1].removeprefix("method=") for cell in beside] == ["sdseg_z0", *names]
