"""Every command of the README, the docs and --help: understood, composed, and run where that takes no training."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import cli
from bench.command.arguments import STEPS, build_parser, is_sweep
from bench.command.examples import EXAMPLES, KEYS
from bench.config import compose_config, expand
from bench.errors import InputError
from bench.jobs import sweep_jobs
from bench.quoting import quote_overrides
from bench.study import read_study
from tests.test_cli import make_folder

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    """The fenced blocks of a page."""
    return re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(*programs: str) -> list[str]:
    """Lines of fenced blocks that begin with a program; what brackets mark as optional is given."""
    lines = [line for page in PAGES for block in blocks(page) for line in block.splitlines()]
    lines = [re.sub(r"  +\S.*", "", line.removeprefix(".venv/bin/")) for line in lines]
    found = dict.fromkeys(line for line in lines if line.partition(" ")[0] in programs)
    return [re.sub(r"\[(--[^\]]*|FILE|OVERRIDES)\]", r"\1", line).replace("OVERRIDES", "").strip() for line in found]


def words(command: str) -> list[str]:
    """The arguments as a shell would split them."""
    return shlex.split(command, comments=True)[1:]


DOCUMENTED = commands("sdseg")
SDSEG = list(dict.fromkeys([*DOCUMENTED, *(line for lines in EXAMPLES.values() for line in lines)]))
PYTEST = commands("pytest")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands name."""
    (mine,) = (block for block in blocks(ROOT / "docs" / "guide.md") if block.startswith("name: mine"))
    (study,) = (block for block in blocks(ROOT / "docs" / "reproducing.md") if block.startswith("# conf/study/mine"))
    for folder, name, text in (("conf_of_mine", "method", mine), ("conf", "method", mine), ("conf", "study", study)):
        (tmp_path / folder / name).mkdir(parents=True)
        (tmp_path / folder / name / "mine.yaml").write_text(text)
    for weights in ("KL", "LSUN"):  # a folder that does not exist is refused
        (tmp_path / weights).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def composed(*overrides: str) -> bool:
    """Whether there is a cell; where no method is named, of one, and wherever the runs shall lie."""
    asked = {o for o in overrides if not o.startswith("runs_dir=")}
    named = any(o.startswith(("method=", "methods=")) for o in asked)
    return compose_once(frozenset(asked if named else asked | {"method=unet"}))


@cache
def compose_once(overrides: frozenset[str]) -> bool:
    """Several commands ask for the same."""
    lists = [o for o in overrides if o.startswith(("methods=", "datasets=", "seeds="))]
    return bool(expand(sorted(overrides)) if lists else compose_config(sorted(overrides)))


def test_there_are_commands() -> None:
    assert len(SDSEG) > 20
    assert len(PYTEST) > 8
    assert all(name in " ".join(SDSEG) for name in ("segment", "export", "--promote", "hydra.searchpath"))


@pytest.mark.parametrize("command", SDSEG)
def test_sdseg_understands(command: str, place: Path) -> None:
    parsed, rest = build_parser(cli.VERBS).parse_known_args(words(command))
    assert not [word for word in rest if word.startswith("-") and not is_sweep([word])]
    if is_sweep(rest):
        assert all(composed(*job) for job in sweep_jobs(rest[1:]))
    elif parsed.verb in (*STEPS, "gate"):
        assert composed(*(word for word in rest if "=" in word))
    elif parsed.verb == "study":
        assert read_study(parsed.name, rest).parts
    elif parsed.verb == "audit":
        assert composed(*([f"dataset={parsed.what}"] if rest else []), *rest)
    elif parsed.verb == "check-method":
        assert composed(f"method={parsed.name}", *rest)
    else:
        assert all(word.startswith("hydra.searchpath=") for word in rest)


def test_every_verb_shows_examples_and_keys_that_exist(capsys: pytest.CaptureFixture) -> None:
    for verb in cli.VERBS:
        assert 2 <= len(EXAMPLES[verb]) <= 4
        assert all(line.split()[:2] == ["sdseg", verb] for line in EXAMPLES[verb])
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    shown = capsys.readouterr().out
    assert all(f"\n  {text}" in shown for text in (*EXAMPLES["run"], *KEYS))
    config = compose_config(["profile=smoke", "dataset=folder", "dataset.root=DATA"])
    for key in KEYS.keys() - {"profile"}:  # which is chosen, and leaves its name
        section, _, name = key.partition(".")
        assert name in config[section] if name else section in config


@pytest.mark.parametrize("command", PYTEST)
def test_pytest_understands(command: str, pytestconfig: pytest.Config) -> None:
    values: dict[str, list[str]] = {}
    name = ""
    for word in words(command):
        if word.startswith("-"):
            name = word
            pytestconfig.getoption(name)  # ValueError where there is none
            values.setdefault(name, [])
        elif word.startswith("suites/"):
            assert (ROOT / word).exists()
        else:
            values[name].append(word)
    matrix = [f"{axis}=[{values[f'--{axis}'][0]}]" for axis in ("methods", "seeds") if f"--{axis}" in values]
    matrix += [f"datasets=[{x}]" for x in values.get("--datasets", []) if x != "x"]
    matrix = [text for text in matrix if text != "methods=[a,b]"]
    given = [text for text in values.get("--set", []) if text != "key=value"]
    assert composed(f"profile={values.get('--profile', ['smoke'])[0]}", *matrix, *given)


def test_modules_and_targets_exist() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    modules = set(re.findall(r"python -m ([\w.]+)", text)) | set(re.findall(r" -m (bench[\w.]*)", text))
    assert {"sdseg.training.codec_training", "bench.cli"} <= modules
    assert [name for name in modules if find_spec(name) is None] == []
    for target in {line.split()[1] for line in commands("make")}:
        assert subprocess.run(["make", "--dry-run", target], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0, (
            target
        )


def test_overrides_in_the_guides_text_compose(place: Path) -> None:
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    inline = [x for x in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*=[^`]+)`", text) if "NAME" not in x]
    assert len(inline) > 5
    for override in inline:
        (given,) = shlex.split(override)
        contexts = (["method=sdseg"], ["method=sdseg_pretrained", "method.options.weights=W"])
        assert any(composes([*context, "dataset=folder", "dataset.root=DATA", given]) for context in contexts), given


def composes(overrides: list[str]) -> bool:
    try:
        return bool(compose_config(quote_overrides(overrides)))
    except InputError:
        return False


def test_commands_that_train_nothing_run_as_written(place: Path, capsys: pytest.CaptureFixture) -> None:
    masks = make_folder(place / "DATA") / "masks"
    for case in sorted(masks.iterdir()):
        case.rename(masks / f"patient{case.stem[-2:]}_{case.name}")
    for name in ("PREDICTIONS", "REFERENCES", "PRED", "REF", "SOFT", "A", "B"):
        shutil.copytree(masks, place / name)
    rows = "".join(f"{path.stem},{path.stem[:9]}\n" for path in sorted(masks.iterdir()))
    (place / "groups.csv").write_text(f"case,group\n{rows}")
    assert cli.main(["score-folder", "B", "REF", "--out", "OTHER_SCORES"]) == 0
    others = ("--conventions", "--labels", "--background")  # slow, or of other masks than these
    done = [c for c in DOCUMENTED if c.split()[1] == "score-folder" and not any(option in c for option in others)]
    done += [c for c in DOCUMENTED if re.search(r" (SCORES|scored|scored/a)( |$)", c) and c not in done]
    assert len(done) >= 12
    for command in done:
        assert cli.main(words(command)) == 0, (command, capsys.readouterr().err)
