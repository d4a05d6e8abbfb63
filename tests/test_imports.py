"""Rules read from the source: who may import whom (docs/architecture.md), and that every text has an encoding."""

from __future__ import annotations

import ast
from functools import cache
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


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def imported_modules(path: Path) -> set[str]:
    """Absolute names of everything a file imports, inside functions too; `import_module("x")` counts."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            names |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return names


def breaches(folder: str, files: list[Path]) -> list[str]:
    collected = []
    for path in files:
        for name in imported_modules(path):
            allowed = any(name == a or name.startswith(a + ".") for a in ALLOWED[folder] | SHARED)
            if name.split(".")[0] in OURS and not allowed:
                collected.append(f"{path.relative_to(ROOT)} imports {name}")
    return collected


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


def unencoded(tree: ast.AST) -> list[int]:
    """Lines of calls that read or write text and name no encoding."""
    lines = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        named = {keyword.arg for keyword in call.keywords}
        modes = [
            a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str) and len(a.value) < 4
        ]
        opens = name == "open" and modes and "b" not in modes[0]
        text = any(k.arg == "text" and getattr(k.value, "value", False) for k in call.keywords)
        if (name in ("read_text", "write_text") or opens or text) and "encoding" not in named:
            lines.append(call.lineno)
    return lines


def test_every_text_names_its_encoding() -> None:
    """No file is read or written in whatever encoding a machine prefers."""
    paths = [path for folder in OURS[:-1] for path in (ROOT / folder).rglob("*.py")]
    lines = {str(path): unencoded(parsed(path)) for path in paths}
    assert {path: found for path, found in lines.items() if found} == {}


def test_what_is_looked_for_is_noticed() -> None:
    bad = "p.read_text()\np.write_text(x)\np.open('w')\nrun(c, text=True)\n"
    code = bad + "p.open('rb')\np.read_text(encoding='utf-8')\nImage.open(p)"
    assert unencoded(ast.parse(code)) == [1, 2, 3, 4]
