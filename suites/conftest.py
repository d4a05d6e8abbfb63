"""Which suites `pytest suites/` collects: those that run for every method. The others run when their file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

ALWAYS = ("test_accuracy.py", "test_efficiency.py", "test_stability.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a suite that runs on request, unless its file is among the paths on the command line."""
    if collection_path.suffix != ".py" or collection_path.name in ALWAYS:
        return None
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]).resolve() for argument in config.args]
    return True if collection_path.resolve() not in named else None
