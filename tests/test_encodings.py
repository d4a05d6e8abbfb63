"""No file is read or written in whatever encoding a machine prefers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    p for folder in ("sdseg", "baselines", "bench", "reports", "suites") for p in (ROOT / folder).rglob("*.py")
)


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


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_text_names_its_encoding(path: Path) -> None:
    assert unencoded(ast.parse(path.read_bytes())) == []


def test_what_is_looked_for_is_noticed() -> None:
    bad = "p.read_text()\np.write_text(x)\np.open('w')\nrun(c, text=True)\n"
    code = bad + "p.open('rb')\np.read_text(encoding='utf-8')\nImage.open(p)"
    assert unencoded(ast.parse(code)) == [1, 2, 3, 4]
