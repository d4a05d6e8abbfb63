"""Loads the project's pytest plugins; everything they do is in `bench/plugin.py` and `reports/plugin.py`."""

pytest_plugins = ["bench.plugin", "reports.plugin"]
