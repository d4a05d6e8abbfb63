"""The import rule of docs/architecture.md, read from the source: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("sdseg", "baselines", "bench", "suites", "reports", "tests")
# The one exception: the module that makes torchvision importable (law 12).
SHARED = {"sdseg.torchvision_ops"}
ALLOWED = {
    "sdseg": {"sdseg"},
    "baselines": {"baselines", "sdseg"},
    "bench": {"bench"},
    "reports": {"reports", "bench.record", "bench.scores", "bench.stats"},
    "suites": {"suites", "bench", "reports"},
    "conftest.py": {"bench", "reports"},
}


def imported_modules(path: Path) -> set[str]:
    """Absolute names of everything a file imports, inside functions too; `import_module("x")` counts."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            names |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return names


def breaches(folder: str, files: list[Path]) -> list[str]:
    found = []
    for path in files:
        for name in imported_modules(path):
            allowed = any(name == a or name.startswith(a + ".") for a in ALLOWED[folder] | SHARED)
            if name.split(".")[0] in OURS and not allowed:
                found.append(f"{path.relative_to(ROOT)} imports {name}")
    return found


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_import_rule(folder: str) -> None:
    base = ROOT / folder
    files = [base] if base.is_file() else sorted(base.rglob("*.py"))
    assert files
    assert breaches(folder, files) == []


def test_reads_imports_inside_functions(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from sdseg.model import SDSeg\n")
    assert {"sdseg.model.SDSeg"} <= imported_modules(bad)


@pytest.mark.parametrize("module", ["torch"])
def test_reports_and_records_need_no_torch(module: str) -> None:
    files = [
        *(ROOT / "reports").rglob("*.py"),
        ROOT / "bench/record.py",
        ROOT / "bench/scores.py",
        *(ROOT / "bench/stats").rglob("*.py"),
    ]
    assert [str(f) for f in files if any(n.split(".")[0] == module for n in imported_modules(f))] == []
