"""Golden data and the models its procedural checkpoints give, through the project's own loader."""

from __future__ import annotations

import pytest

from sdseg.model import SDSeg
from sdseg.weights.official import sdseg_from_official
from tests.parity.golden import Golden


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the full size, which takes minutes and gigabytes, unless it is asked for with -m full."""
    large = [item for item in items if item.get_closest_marker("full")]
    if large and "full" not in config.option.markexpr:
        items[:] = [item for item in items if item not in large]
        config.hook.pytest_deselected(items=large)


@pytest.fixture(scope="session", params=["tiny", pytest.param("full", marks=pytest.mark.full)])
def golden(request: pytest.FixtureRequest) -> Golden:
    """Both sizes, the full one behind its marker."""
    return Golden(request.param)


@pytest.fixture(scope="session")
def model(golden: Golden) -> SDSeg:
    """The model of that size."""
    return sdseg_from_official(golden.official_state())


@pytest.fixture(scope="session")
def tiny() -> Golden:
    """The small size, for items that only it has."""
    return Golden("tiny")


@pytest.fixture(scope="session")
def tiny_model(tiny: Golden) -> SDSeg:
    """The small model; leave its weights alone."""
    return sdseg_from_official(tiny.official_state())


@pytest.fixture(scope="session")
def multiclass_model(tiny: Golden) -> SDSeg:
    """The small model for three labels and their union."""
    return sdseg_from_official(tiny.official_state("multiclass"))
