"""What `make demo` prints, without building anything."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from infc.compiler.measure.result import Measured

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_missed_target_is_shown(demo: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Measured("latency p99 <= 20 ms", 0.02, 0.0073, "7.3 ms", True, ""),
        Measured("memory <= 1 MiB", 1.0, 2.0, "2 MiB", False, "peak resident set"),
        Measured("cold_start <= 1 s", 1.0, None, "", None, "no server for this machine"),
    ]
    demo.print_targets([m.as_json() for m in rows])
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "latency p99 <= 20 ms 7.3 ms met",
        "memory <= 1 MiB 2 MiB MISSED (peak resident set)",
        "cold_start <= 1 s - not measured (no server for this machine)",
    ]


def test_cosine(demo: ModuleType) -> None:
    assert demo.cosine([3.0, 4.0], [3.0, 4.0]) == pytest.approx(1.0)
    assert demo.cosine([1.0, 0.0], [0.0, 2.0]) == 0.0


def test_it_uses_the_command_and_the_standard_library_alone(demo: ModuleType) -> None:
    import ast
    import sys

    tree = ast.parse((ROOT / "examples" / "demo.py").read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {n.partition(".")[0] for n in names} <= sys.stdlib_module_names
