"""The verb `check-method`: what holds its contract passes, and each way of breaking it is named by its own rule."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import cli
from bench.command.check_method import RULES, check_method
from bench.errors import RunError
from tests.own_code import OwnCode

ROOT = Path(__file__).parents[1]
SMALL = ["image_size=32", "dataset.size=48"]

TWICE = """    def twice(self, train, workdir):
        with (workdir / "calls").open("a") as file:
            file.write("x")
        [train[i] for i in range(len(train))]

    def load"""
# Rule, what it says, and pairs of text in tests/own_code.py's method and what takes its place.
BROKEN: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "half size": ("shape", r"\(3, 1, 16, 16\)", [("Prediction(score, ", "Prediction(score[..., ::2, ::2], ")]),
    "whole numbers": ("type", "mask is torch.uint8", [("score > 0.5)", "(score > 0.5).byte())")]),
    "logits": (
        "range",
        r"expected finite values in \[0, 1\]",
        [("score > 0.5)", "score > 0.5)._replace(score=9 * score)")],
    ),
    "global noise": ("determinism", "same state differ", [("generator=g)", "generator=None)")]),
    "batch mates": ("batch", "alone and the batch of 3", [("+ 0.3\n", "+ 0.3 * image.mean().sigmoid()\n")]),
    "forgets": (
        "load",
        "objects built with other seeds",
        [
            ("self.loaded = False", "self.weight = torch.rand(1, generator=torch.Generator().manual_seed(seed))"),
            ("+ 0.3\n", "+ 0.3 * self.weight\n"),
            ("assert self.loaded", "pass"),
        ],
    ),
    "never loads": (
        "load",
        "as one that never did",
        [("assert self.loaded", "pass"), ("return {", "[train[i] for i in range(len(train))]; return {")],
    ),
    "begins in the middle": (
        "resume",
        "killed and called again differs",
        [
            ('(workdir / "weights.txt").write', 'self.twice(train, workdir); (workdir / "weights.txt").write'),
            ("self.loaded = (", 'self.calls = len((workdir / "calls").read_text()); self.loaded = ('),
            ("+ 0.3\n", "+ 0.3 / self.calls\n"),
            ("    def load", TWICE),
        ],
    ),
    "another device": ("device", "lies on meta", [("torch.nn.Identity()", 'torch.nn.Linear(1, 1, device="meta")')]),
    "an error": ("fit", "ZeroDivisionError", [("return {", "return {'x': 1 / 0, ")]),
    "no facts": ("fit", "returned a list", [('return {"width": self.width', 'return [] and {"width": self.width')]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_named_by_its_rule(kind: str, own_code: OwnCode) -> None:
    rule, said, edits = BROKEN[kind]
    for before, after in edits:
        own_code.edit("own_method", before, after)
    broken = [outcome for outcome in check_method("own", SMALL) if not outcome.holds]
    assert [outcome.rule for outcome in broken] == [rule]
    assert re.search(said, broken[0].says), broken[0].says


def test_exit_codes(own_code: OwnCode, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["check-method", "own", *SMALL]) == 0
    assert "own holds its contract" in capsys.readouterr().out
    own_code.edit("own_method", "generator=g)", "generator=None)")
    assert cli.main(["check-method", "own", *SMALL]) == 3
    assert capsys.readouterr().out.endswith("own breaks: determinism\n")
    own_code.edit("own_method", "def load(", "def lod(")
    for name in ("own", "nobodys"):
        assert cli.main(["check-method", name, *SMALL]) == 2
        assert re.match(rf"error: .*({name}|has no method load)", capsys.readouterr().err)


def test_a_file_with_empty_keys_is_read_and_a_module_that_is_missing_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("name: mine\ntarget: nowhere.build\noptions:\ninference:\n")
    assert cli.main(["check-method", "mine", f"hydra.searchpath=[{tmp_path}]"]) == 2
    assert "nowhere.build: cannot be imported (No module named 'nowhere'); install" in capsys.readouterr().err


def test_a_recipe_that_a_file_does_not_ask_for_is_named(own_code: OwnCode, tmp_path: Path) -> None:
    own_code.edit("own_method", "self.loaded = False", "self.width = recipe['batch_size']")
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("name: mine\ntarget: own_method.Method\n")
    with pytest.raises(RunError, match=r"KeyError: 'batch_size' at .*its file has no recipe, say recipe: \$\{train\}"):
        check_method("mine", [*SMALL, f"hydra.searchpath=[{tmp_path}]", "train.steps=2"])


@pytest.mark.parametrize(
    ("name", "more"), [("unet", "method.options.options.features=[4,4,4,4,4,4]"), ("colour", "draws=2")]
)
def test_these_hold_their_contract(name: str, more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "own_method.md").read_text(encoding="utf-8")
    (file,) = re.findall(r"```yaml\n(name: colour\n.*?)```", page, re.DOTALL)
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "colour.yaml").write_text(file)
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    outcomes = check_method(name, [*SMALL, more, f"hydra.searchpath=[{tmp_path}]"])
    assert [outcome.rule for outcome in outcomes if outcome.holds] == list(RULES), outcomes
    assert not any(outcome.says.startswith("not ") for outcome in outcomes)
