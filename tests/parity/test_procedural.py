"""The generators of the golden data give the values that the golden data says they give."""

from __future__ import annotations

import re

import pytest

from tests.parity import procedural
from tests.parity.golden import Golden


@pytest.fixture(scope="module")
def selfcheck(tiny: Golden) -> dict:
    return tiny.json("weights_selfcheck")


@pytest.mark.parametrize("size", ["tiny", "full"])
def test_weights(tiny: Golden, selfcheck: dict, size: str) -> None:
    for key, facts in selfcheck[size].items():
        weight = procedural.weight(key, facts["shape"], tiny.salt)
        assert weight.flatten()[:4].tolist() == pytest.approx(facts["first4"], rel=1e-6)
        assert float(weight.double().mean()) == pytest.approx(facts["mean"], rel=1e-5)
        assert float(weight.double().std()) == pytest.approx(facts["std"], rel=1e-5)


def test_inputs(tiny: Golden, selfcheck: dict) -> None:
    for title, first in selfcheck["inputs"].items():
        name, shape = re.match(r"(\S+) \(([\d,]+)\)", title).groups()
        made = procedural.tensor(name, [int(n) for n in shape.split(",")], tiny.salt, image="tanh" in title)
        assert made.flatten()[:4].tolist() == pytest.approx(first, rel=1e-6)


def test_masks(tiny: Golden, selfcheck: dict) -> None:
    for name, facts in selfcheck["masks"].items():
        assert int(procedural.ellipse(name, tiny.salt, facts["size"]).sum()) == facts["area"]
