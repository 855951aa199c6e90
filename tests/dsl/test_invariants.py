"""What `dsl/` never does: import anything heavy, reach the network, write files, or import another room."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

DSL = Path(__file__).resolve().parents[2] / "dsl"
FILES = sorted(DSL.glob("*.py"))
BOUNDARY = "generate.py"
"""The one file that may import Lark and write (the tables); nothing imports it."""


def _imports(tree: ast.AST) -> list[tuple[int, str]]:
    out: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            out += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            out.append((node.level, node.module or ""))
    return out


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_a_file_of_the_language_imports_only_its_neighbours_and_the_standard_library(path: Path) -> None:
    for level, module in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        if level == 0:
            root = module.split(".")[0]
            assert root in sys.stdlib_module_names or (root == "lark" and path.name == BOUNDARY), (
                f"{path.name}: {module}"
            )
            assert root not in ("socket", "urllib", "http", "subprocess", "ssl", "asyncio"), f"{path.name}: {module}"
        else:
            assert level == 1, f"{path.name} reaches out of dsl/: {'.' * level}{module}"
            assert module != "generate"


@pytest.mark.parametrize("path", [p for p in FILES if p.name != BOUNDARY], ids=lambda p: p.name)
def test_the_language_never_writes_a_file(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert name not in ("write_text", "write_bytes", "mkdir", "unlink", "rename", "makedirs")
            if name == "open":
                modes = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
                assert set(modes) <= {"rb", "r"}, f"{path.name}:{node.lineno} opens for {modes}"


def test_no_file_is_longer_than_it_should_be() -> None:
    long = [p.name for p in FILES if len(p.read_text(encoding="utf-8").splitlines()) > 600 and p.name != "_tables.py"]
    assert long == []
