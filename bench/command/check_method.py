"""The verb `check-method`: a method held to its contract, rule by rule, on tiny data and a few training steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from bench.build import build_dataset, build_segmenter
from bench.config import Cell, expand
from bench.contract import HALF_ROUNDING, ROUNDING, ContractError, answer, difference, errors_of
from bench.datasets.items import TrainingItems
from bench.device import resolve, stated
from bench.errors import InputError, RunError
from bench.runner import check_applicable
from bench.seeding import CaseGenerator
from bench.types import Prediction, Segmenter

IMAGES = 3
_TRAINING = {"steps": 4, "batch_size": 2, "warmup": 1, "validate_every": 2, "checkpoint_every": 2}
_TINY = {
    "seed": "0",
    **{f"train.{key}": str(value) for key, value in _TRAINING.items()},
    **{f"dataset.n_{split}": str(count) for split, count in (("train", 8), ("val", 2), ("test", IMAGES))},
}


class Outcome(NamedTuple):
    """A rule in a word, whether it holds, and what was seen."""

    rule: str
    holds: bool
    says: str


def check_method(name: str, overrides: Sequence[str]) -> list[Outcome]:
    """The outcome of every rule; those that make no sense after one that is broken are left out.

    InputError where there is no such method, or its object lacks a part of the contract.
    """
    cell = _cell(name, list(overrides))
    outcomes: list[Outcome] = []
    with TemporaryDirectory() as folder:
        subject = Subject(cell, Path(folder))
        for rule, (look, vital) in RULES.items():
            try:
                outcomes.append(Outcome(rule, True, look(subject)))
            except (RunError, InputError) as error:
                broken = error.rule if isinstance(error, ContractError) else rule
                said = str(error).removeprefix(f"method {cell.method}: ")
                outcomes.append(Outcome(broken, False, said))
                if vital:
                    break
    return outcomes


def _cell(name: str, overrides: list[str]) -> Cell:
    """The method on tiny images, or on volumes if those are what it segments; what overrides say goes before."""
    given = {override.lstrip("+").partition("=")[0] for override in overrides}
    own_data = "dataset" in given
    plain = [f"{k}={v}" for k, v in _TINY.items() if k not in given and not (own_data and k.startswith("dataset."))]
    for dataset in ("phantom/polyp", "phantom/organs"):
        data = [] if own_data else [f"dataset={dataset}"]
        cell = expand([f"method={name}", *data, *plain, *overrides])[0]
        if own_data or (cell.config["method"].get("options") or {}).get("dims") != 3:
            break
    return cell


class Subject:
    """A method on its data, with what the first rules leave for the later ones."""

    def __init__(self, cell: Cell, folder: Path) -> None:
        self.config, self.section = cell.config, cell.config["method"]
        self.folder = folder
        self.limit = ROUNDING if resolve(cell.config["device"]) == "cpu" else HALF_ROUNDING
        dataset = build_dataset(cell.config)
        self.task = dataset.spec
        check_applicable(cell, self.task)
        self.segmenter = self.build()
        self.train, self.val, test = (
            TrainingItems(dataset, split, self.segmenter.dims) for split in ("train", "val", "test")
        )
        # A method of volumes sees one at a time.
        count = min(len(test), IMAGES if self.segmenter.dims == 2 else 1)
        self.images = torch.stack([test[index]["image"] for index in range(count)])
        self.reads = 0
        self.answer: Prediction

    def build(self, seed: int | None = None) -> Segmenter:
        """A new object, of the configuration's seed unless another is given."""
        config = self.config if seed is None else {**self.config, "seed": seed}
        return build_segmenter(config, self.task)

    def fit(self, folder: str, train: Any = None) -> dict[str, Any]:
        """Fit a new object in a folder beside the others."""
        place = self.folder / folder
        place.mkdir(exist_ok=True)
        with errors_of(self.section, "fit"):
            return self.build().fit(self.train if train is None else train, self.val, place)

    def loaded(self, folder: str, seed: int | None = None) -> Segmenter:
        """A new object that has loaded what a fit left."""
        segmenter = self.build(seed)
        with errors_of(self.section, "load"):
            segmenter.load(self.folder / folder)
        return segmenter

    def ask(self, segmenter: Segmenter, order: Sequence[int] | None = None) -> Prediction:
        """The answer to the test images in an order, each with the generator of its own."""
        chosen = list(range(len(self.images)) if order is None else order)
        generators = [CaseGenerator(self.config["seed"], f"image {index}", 0) for index in chosen]
        with errors_of(self.section, "predict"):
            return answer(segmenter, self.task, self.images[chosen], generators)


class _Counted:
    """Training items that count how often they are read, and stop like a killed process after so many."""

    def __init__(self, items: TrainingItems, most: int | None = None) -> None:
        self.items, self.most, self.reads = items, most, 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.most is not None and self.reads >= self.most:
            raise KeyboardInterrupt
        self.reads += 1
        return self.items[index]


def _fits(subject: Subject) -> str:
    items = _Counted(subject.train)
    facts = subject.fit("whole", items)
    subject.reads = items.reads
    if facts is not None and not isinstance(facts, dict):
        raise ContractError(f"fit returned a {type(facts).__name__}, expected a dictionary of facts, or None", "fit")
    subject.segmenter = subject.loaded("whole")
    return f"a new object loads what fit left after reading {items.reads} training items"


def _answers(subject: Subject) -> str:
    subject.answer = subject.ask(subject.segmenter)
    shape = tuple(subject.answer.score.shape)
    return f"score in [0, 1] and mask of truth values, both {shape} for {len(subject.images)} images"


def _repeats(subject: Subject) -> str:
    away = difference(subject.answer.score, subject.ask(subject.segmenter).score)
    if away > subject.limit:
        says = f"two predictions with generators of the same state differ by {away:.2g}; draw all noise from the given"
        raise ContractError(f"{says} generators, and switch off layers such as dropout (model.eval())", "determinism")
    return "generators of the same state give the same answer"


def _stands_alone(subject: Subject) -> str:
    count = len(subject.images)
    if count < 2:
        return "not looked at: the harness shows this method one volume at a time"
    alone = torch.cat([subject.ask(subject.segmenter, [index]).score for index in range(count)])
    turned = subject.ask(subject.segmenter, range(count)[::-1]).score.flip(0)
    for other, how in ((alone, "each image alone and"), (turned, "images in another order and")):
        away = difference(subject.answer.score, other)
        if away > subject.limit:
            says = f"{how} the batch of {count} differ by {away:.2g}; an answer may depend on its own image and"
            raise ContractError(f"{says} generator only: no batch statistics (model.eval()), noise per image", "batch")
    return f"the same answer alone, in a batch of {count} and in another order, up to rounding"


def _loads(subject: Subject) -> str:
    other = subject.ask(subject.loaded("whole", subject.config["seed"] + 1))
    away = difference(subject.answer.score, other.score)
    if away > subject.limit:
        says = f"objects built with other seeds differ by {away:.2g} after loading the same folder"
        raise ContractError(f"{says}; load must bring back everything that an answer depends on", "load")
    if subject.segmenter.model is None or not subject.reads:
        return "objects of other seeds answer alike after loading (nothing was trained)"
    try:
        untrained = subject.ask(subject.build())
    except (RunError, InputError):  # it refuses to answer before it has loaded
        return "objects of other seeds answer alike after loading"
    if torch.equal(untrained.score, subject.answer.score):
        raise ContractError("an object that loaded answers as one that never did; take what fit left", "load")
    return "objects of other seeds answer alike after loading, and not as one that never loaded"


def _resumes(subject: Subject) -> str:
    if subject.reads < 2:
        return "not looked at: fit reads no training items that it could be stopped at"
    stopped = _Counted(subject.train, most=subject.reads * 3 // 4)
    try:
        subject.fit("stopped", stopped)
    except KeyboardInterrupt:
        subject.fit("stopped")
    away = difference(subject.answer.score, subject.ask(subject.loaded("stopped")).score)
    if away <= subject.limit:
        return "a fit that was killed ends, when called again, where one ends that ran through"
    subject.fit("again")
    by_itself = difference(subject.answer.score, subject.ask(subject.loaded("again")).score)
    if by_itself > subject.limit:
        return f"not judged: two whole trainings already differ by {by_itself:.2g}; seed them to make runs repeatable"
    says = f"a fit that was killed and called again differs by {away:.2g} from one that ran through"
    raise ContractError(f"{says}; go on exactly from what the killed call left, or ignore it", "resume")


def _lies_on_device(subject: Subject) -> str:
    told, model = resolve(subject.config["device"]), subject.segmenter.model
    if model is None:
        return "not looked at: there is no network"
    says = stated(subject.segmenter, told).type
    elsewhere = {parameter.device.type for parameter in model.parameters()} - {says}
    if elsewhere:
        lies = f"the network lies on {', '.join(sorted(elsewhere))}, and the method says {says}"
        raise ContractError(f"{lies}; move it to the device that the constructor is given, or state another", "device")
    return f"the network lies on {says}, as the method states; it was told {told}"


# In this order; a vital one, where it is broken, leaves nothing to say of those after it.
RULES: dict[str, tuple[Callable[[Subject], str], bool]] = {
    "fit": (_fits, True),
    "answer": (_answers, True),
    "determinism": (_repeats, True),
    "batch": (_stands_alone, False),
    "load": (_loads, False),
    "resume": (_resumes, False),
    "device": (_lies_on_device, False),
}
