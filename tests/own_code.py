"""Code from outside, as a user writes it: a method, a data set and a metric in a folder of the test's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import plugins, runner, sources

METHOD = """
import torch
from bench.types import Prediction

class Method:
    dims, evaluations, samples = 2, 1, 1

    def __init__(self, task, seed, device, recipe, width: int = 3, **options):
        self.model, self.device, self.width = torch.nn.Identity(), device, width
        self.loaded = False

    def fit(self, train, val, workdir):
        (workdir / "weights.txt").write_text(str(self.width))
        return {"width": self.width, "loss": float("nan"), "device": self.device, "train_s_per_step": 1}

    def load(self, workdir):
        self.loaded = (workdir / "weights.txt").read_text() == str(self.width)

    def predict(self, image, generators):
        assert self.loaded
        noise = torch.stack([torch.rand(image.shape[2:], generator=g) for g in generators])[:, None]
        score = 0.4 * (image.mean(1, keepdim=True) > 0) + 0.1 * noise + 0.3
        return Prediction(score, score > 0.5)
"""
DATASET = """
import hashlib
import numpy as np
from bench.types import Case, TaskSpec

class Data:
    def __init__(self, image_size, count: int = 6, split: str = "kept apart"):
        self.spec = TaskSpec(3, ("object",), (image_size, image_size), 2)
        self.count, self.split = count, split

    def case_ids(self, split):
        names = [f"case{i}" for i in range(self.count)]
        if self.split == "same":
            return names
        return {"train": names[:2], "val": names[2:3], "test": names[3:]}[split]

    def case(self, case_id):
        number = int(case_id[4:])
        image = np.full((3, 32, 32), 40, np.float32)
        image[:, 4 + number : 20, 5:25] = 200
        group = "patient" if self.split == "same patient" else case_id
        return Case(case_id, group, image, image[:1] > 100)

    def check(self):
        pass

    def fingerprint(self):
        return {"data": hashlib.sha256(str(self.count).encode()).hexdigest(), "split": "s"}
"""
METRIC = """
from bench.metrics import Metric

def area(pair):
    return pair.n_prediction

AREA = Metric("Area", "px", "lower", "strict", area)
"""
POINTS = {
    "sdseg.methods": "own = own_method:Method",
    "sdseg.datasets": "own_data = own_data:Data",
    "sdseg.metrics": "Area = own_metric:AREA",
}


class OwnCode:
    """A folder on Python's path, with the entry points of a package that is installed there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in (("own_method", METHOD), ("own_data", DATASET), ("own_metric", METRIC)):
            (root / f"{name}.py").write_text(text)
        info = root / "own-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("".join(f"[{group}]\n{line}\n" for group, line in POINTS.items()))

    def edit(self, module: str, before: str, after: str) -> None:
        """Change a line, and be as a new process is."""
        path = self.root / f"{module}.py"
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))
        as_a_new_process()


def as_a_new_process() -> None:
    """Forget own modules and what was asked once of them."""
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    for asked in (sources.fingerprint, sources._sources, plugins._node, runner._checked, runner.training_items):
        asked.cache_clear()


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnCode]:
    """A method, a data set and a metric behind entry points `own`, `own_data` and `Area`."""
    root = tmp_path / "own_code"
    root.mkdir()
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield OwnCode(root)
    as_a_new_process()
