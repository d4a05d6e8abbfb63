"""The contract of a method and of a data set: what breaks it is one line that names who, where and what was given."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import cli
from bench.config import expand
from bench.contract import ContractError, answer, answer_checked, check_segmenter, plain_facts
from bench.datasets.items import TrainingItems
from bench.errors import InputError
from bench.results.environment import device_facts
from bench.results.store import RunFolder
from bench.runner import Run, run_cell
from bench.seeding import CaseGenerator
from bench.types import Prediction, TaskSpec
from docs.example_method import ColourRegression
from tests.own_code import OwnCode

pytestmark = pytest.mark.usefixtures("no_lpips")

TASK = TaskSpec(3, ("object",), (8, 8), 2)
ROOT = Path(__file__).parents[1]


class Answers:
    """A method that answers by a function of (image, generators)."""

    model: torch.nn.Module | None = torch.nn.Identity()
    dims, evaluations, samples = 2, 1, 1

    def __init__(self, respond) -> None:
        self.predict = respond

    def fit(self, train, val, workdir):
        return {}

    def load(self, workdir):
        pass


def asked(respond, ask=answer, batch: int = 3, model: torch.nn.Module | None = Answers.model) -> Prediction:
    method = Answers(respond)
    method.model = model
    image = torch.linspace(-1, 1, batch * 3 * 64).reshape(batch, 3, 8, 8)
    return ask(method, TASK, image, [CaseGenerator(0, f"case{i}", 0) for i in range(batch)])


def good(image: torch.Tensor, generators=()) -> Prediction:
    score = image.mean(1, keepdim=True).sigmoid()
    return Prediction(score, score > 0.5)


BROKEN = {
    "logits": (lambda i, g: good(i)._replace(score=i[:, :1] * 9), r"score runs from -9 to .*\[0, 1\]"),
    "half size": (lambda i, g: Prediction(*(x[..., ::2, ::2] for x in good(i))), r"\(3, 1, 4, 4\) .*\(3, 1, 8, 8\)"),
    "float mask": (lambda i, g: good(i)._replace(mask=good(i).score), "mask is torch.float32, expected torch.bool"),
    "whole score": (lambda i, g: good(i)._replace(score=good(i).mask.long()), "score is torch.int64"),
    "NaN": (lambda i, g: good(i)._replace(score=good(i).score * float("nan")), "score runs from nan to nan"),
    "one row": (lambda i, g: good(i[:1]), r"\(1, 1, 8, 8\)"),
    "two labels": (lambda i, g: Prediction(*(x.repeat(1, 2, 1, 1) for x in good(i))), r"\(3, 2, 8, 8\)"),
    "arrays": (lambda i, g: Prediction(*(x.numpy() for x in good(i))), "ndarray"),
    "nothing": (lambda i, g: None, "NoneType"),
    "a tensor": (lambda i, g: good(i).score, "predict returned a Tensor"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_answer_that_breaks_the_contract(kind: str) -> None:
    respond, said = BROKEN[kind]
    with pytest.raises(ContractError, match=f"case case0: .*{said}"):
        asked(respond)


def test_the_case_is_named_whose_score_is_wrong() -> None:
    def second(image, generators):
        score = good(image).score.clone()
        score[1] = float("inf")
        return Prediction(score, score > 0.5)

    with pytest.raises(ContractError, match="case case1: "):
        asked(second)


def test_what_a_valid_answer_may_be() -> None:
    half = asked(lambda i, g: good(i)._replace(score=good(i).score.half().requires_grad_()))
    assert half.score.dtype == torch.float32
    assert not half.score.requires_grad
    rounded = asked(lambda i, g: good(i)._replace(score=torch.full((3, 1, 8, 8), 1.000001)))
    assert rounded.score.max() == 1
    stored = asked(lambda i, g: Prediction(torch.ones(3, 1, 5, 6), torch.ones(3, 1, 5, 6).bool()), model=None)
    assert stored.mask.shape == (3, 1, 5, 6)


def noisy(noise) -> Prediction:
    def respond(image, generators):
        score = (image.mean(1, keepdim=True) + noise(image, generators)).sigmoid()
        return Prediction(score, score > 0.5)

    return respond


def own(image, generators):
    return torch.stack([torch.randn(1, 8, 8, generator=g) for g in generators])


NOISE = {
    "global": (lambda i, g: torch.randn(len(i), 1, 8, 8), 1, "generators of the same state"),
    "global, in a batch": (lambda i, g: torch.randn(len(i), 1, 8, 8), 3, "generators of the same state"),
    "the first one's": (lambda i, g: torch.randn(len(i), 1, 8, 8, generator=g[0]), 3, "alone and in a batch of 3"),
    "of a fixed seed": (
        lambda i, g: torch.randn(len(i), 1, 8, 8, generator=torch.Generator().manual_seed(0)),
        3,
        "alone and in a batch of 3",
    ),
    "mixed images": (lambda i, g: i.mean(), 3, "alone and in a batch of 3"),
}


@pytest.mark.parametrize("kind", NOISE)
def test_noise_from_anywhere_but_the_generators(kind: str) -> None:
    noise, batch, said = NOISE[kind]
    with pytest.raises(ContractError, match=said):
        asked(noisy(noise), answer_checked, batch)


def test_noise_of_the_generators_and_rounding_of_a_batch_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("bench.progress.note", said.append)
    assert torch.equal(asked(noisy(own), answer_checked).score, asked(noisy(own)).score)
    assert not said
    coarse = noisy(lambda i, g: own(i, g) + 0.01 * (len(i) > 1))  # as half precision may round
    assert asked(coarse, answer_checked).score.shape == (3, 1, 8, 8)
    assert "alone and in a batch of 3 differ by 0.0" in said[0]


@pytest.mark.parametrize("name", ["dims", "evaluations", "samples", "model", "fit", "load", "predict"])
def test_a_method_without_what_it_needs(name: str) -> None:
    parts = {key: getattr(Answers(good), key) for key in ("dims", "evaluations", "samples", "model", "fit", "load")}
    kind = type("Mine", (), {**parts, "predict": good})
    check_segmenter(kind())
    delattr(kind, name)
    with pytest.raises(InputError, match=rf"Mine(\.| has no method ){name}.*bench/types.py"):
        check_segmenter(kind())


def test_a_device_that_is_none_is_refused() -> None:
    method = Answers(good)
    method.device = 2.5  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"Answers\.device is 2\.5, expected a torch\.device"):
        check_segmenter(method)


def test_facts_become_plain() -> None:
    facts = {"loss": float("nan"), "best": torch.tensor(0.5), "steps": np.int64(3), "where": Path("a"), "all": [1, "b"]}
    assert plain_facts(facts) == {"loss": None, "best": 0.5, "steps": 3, "where": "a", "all": [1, "b"]}
    assert plain_facts(None) == {}


def test_items_hold_what_can_be_collated() -> None:
    run = Run(expand(["method=unet", "dataset=phantom/polyp", "seed=0", "dataset.n_train=2"])[0])
    items = TrainingItems(run.dataset, "train", 2)
    batch = next(iter(torch.utils.data.DataLoader(items, batch_size=2)))
    assert set(batch) == {"image", "mask", "case_id"}


def own_run(runs: Path, *more: str) -> list[str]:
    plain = ["draws=2", "image_size=32", "metrics=[Dice]", f"runs_dir={runs}"]
    return ["run", "method=own", "dataset=own_data", "seed=0", *plain, *more]


EDITS = {
    "noise": ("generator=g)", "generator=None)", "two predictions with generators of the same state"),
    "error in predict": (
        "score = 0.4",
        "[*zip([1], [2, 3], strict=True)]; score = 0.4",
        r"own_method.py:22 in predict (SDSEG_DEBUG=1 shows all)",
    ),
    "error in fit": ("(workdir /", "1 / 0\n        (workdir /", "ZeroDivisionError: division by zero at "),
    "error in load": ("self.loaded = (", "self.loaded = 1 / 0 or (", "own_method.py:17 in load"),
}


@pytest.mark.parametrize("kind", EDITS)
def test_a_fault_in_ones_own_code_is_one_line(
    kind: str, own_code: OwnCode, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    before, after, said = EDITS[kind]
    own_code.edit("own_method", before, after)
    assert cli.main(own_run(tmp_path / "runs")) == 3
    err = capsys.readouterr().err
    assert err.startswith("error: own_data-own-seed0: method own: ")
    assert said in err
    assert len(err.splitlines()) == 1
    assert not list((tmp_path / "runs").rglob("*.npz"))
    own_code.edit("own_method", after, before)
    assert cli.main(own_run(tmp_path / "runs")) == 0


@pytest.mark.parametrize(
    ("module", "before", "after", "said"),
    [
        ("method", "self.loaded = False", "raise ValueError('no width')", "ValueError: no width at .*:10 in __init__"),
        ("method", "import torch\n", "import torch\nundefined_name\n", "NameError at .*own_method.py:3 in <module>"),
        ("data", '"kept apart"', '"same"', "case 'case0' is in both train and val"),
        ("data", '"kept apart"', '"same patient"', "group 'patient' lies"),
        ("data", "image[:1] > 100", "image[0] > 100", r"case0: reference has shape \(32, 32\), expected \(1, H, W\)"),
    ],
)
def test_a_fault_before_the_first_step_is_bad_input(
    module: str, before: str, after: str, said: str, own_code: OwnCode, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    own_code.edit(f"own_{module}", before, after)
    assert cli.main(own_run(tmp_path / "runs")) == 2
    assert re.search(said, capsys.readouterr().err)


def test_fit_gets_its_folder_and_device_and_load_comes_after_it(own_code: OwnCode, tmp_path: Path) -> None:
    (cell,) = expand(own_run(tmp_path)[1:])
    folder = RunFolder(run_cell(cell))  # the method asserts that a new object was loaded
    facts = folder.fit_facts()
    assert facts is not None
    assert (facts["width"], facts["loss"]) == (3, None)
    assert facts["device"] in ("cpu", "cuda")


@pytest.mark.parametrize(("told", "says"), [("cpu", "device"), ("auto", "'cpu'")])
def test_the_record_names_the_device_that_was_used(
    told: str, says: str, own_code: OwnCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_code.edit("own_method", "= torch.nn.Identity(), device,", f"= torch.nn.Identity(), {says},")
    (cell,) = expand(own_run(tmp_path, f"device={told}", "draws=1")[1:])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    record = RunFolder(run_cell(cell)).read_record()
    assert record.environment["device"] == device_facts("cpu")
    assert "made_on" not in record.inference


def test_the_example_of_the_documentation_runs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    conf = tmp_path / "conf" / "method"
    conf.mkdir(parents=True)
    text = (ROOT / "docs" / "own_method.md").read_text()
    yaml = text.partition("```yaml\n")[2].partition("```")[0]
    (conf / "colour.yaml").write_text(yaml.replace("example_method.", "docs.example_method."))
    small = ["dataset.n_train=8", "dataset.n_val=2", "dataset.n_test=6", "dataset.size=32", "image_size=32"]
    budget = ["train.steps=60", "train.batch_size=4", "draws=1", "metrics=[Dice]", "method.options.noise=0.2"]
    where = [f"hydra.searchpath=[{tmp_path / 'conf'}]", f"runs_dir={tmp_path / 'runs'}"]
    assert cli.main(["run", "method=colour", *small, *budget, *where]) == 0
    out = capsys.readouterr().out
    assert float(out.split("Dice ")[1].split()[0]) > 0.3
    (record,) = (tmp_path / "runs").rglob("record.json")
    assert json.loads(record.read_text())["config"]["method"]["options"] == {"noise": 0.2}
    assert json.loads(record.read_text())["fit"]["steps"] == 60
    lines = (ROOT / "docs" / "example_method.py").read_text().partition("class ")[2].splitlines()
    assert len(lines) <= 45
    assert ColourRegression.__doc__
